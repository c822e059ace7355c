"""The service files: systemd accepts the unit, and what they call is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from stream.commands import command_names
from stream.config import load_config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "service"
UNIT, DOCKERFILE = FOLDER / "nire-live.service", FOLDER / "Dockerfile"


class _Keys(dict[str, str]):
    """A unit names some keys again and again: they are joined."""

    def __setitem__(self, key: str, value: str) -> None:
        super().__setitem__(key, f"{self[key]}\n{value}" if key in self else value)


def _unit() -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = sections[line.strip("[]")] = _Keys()
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section[key] = value
    return sections


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    for program in re.findall(r"=(/opt/\S+)", text):
        text = text.replace(program, shutil.which("true") or "/bin/true")
    text = text.replace("User=nire-live", "User=root")
    (tmp_path / "nire-live@.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "nire-live@.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "nire-live" in line]
    assert (done.returncode, ours) == (0, [])


def test_unit_restarts_logs_and_drops_privileges() -> None:
    service = _unit()["Service"]
    assert service["Restart"] == "on-failure"
    assert service["User"] == "nire-live"
    assert service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    assert "char-usb_device rw" in service["DeviceAllow"].splitlines()
    assert service["KillSignal"] == "SIGINT"


def test_what_the_files_call_is_there() -> None:
    started = re.findall(r"nire-live/bin/nire-live (\w+)", UNIT.read_text())
    assert started == ["check", "live"]
    lines = DOCKERFILE.read_text().splitlines()
    command = json.loads(next(line.removeprefix("CMD ") for line in lines if line.startswith("CMD ")))
    assert {*started, command[0]} <= set(command_names())
    extras = re.search(r"/src\[([\w,]+)\]", DOCKERFILE.read_text())
    assert extras is not None
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras[1].split(",")) <= set(known)
    assert "USER nire-live" in lines
    assert lines.index("USER nire-live") > next(n for n, line in enumerate(lines) if line.startswith("RUN useradd"))


def test_check_says_what_a_container_needs(tmp_path: Path) -> None:
    from io import StringIO

    from rich.console import Console

    from stream.commands.check import describe

    for seconds, least in ((0.5, 128), (4.0, 600)):
        said = StringIO()
        describe(
            load_config(None, ["source.driver=synthetic", f"ring.seconds={seconds}"]), Console(file=said, width=200)
        )
        size = re.search(r"--shm-size=(\d+)m", said.getvalue())
        assert size is not None
        assert int(size[1]) >= least
        assert "/dev/bus/usb" in said.getvalue()
