"""The project as it is published: built, installed outside the checkout, and run there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stream.command import FREE_PORTS

# One of them builds and installs, and the demonstration compiles its loops anew: a minute on two cores.
pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (".git", ".venv", "out", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
MAPPED = {"stream/_benchmarks": "benchmarks", "stream/_configs": "configs"}
"""Folders of the checkout that a wheel holds elsewhere."""


@dataclass(frozen=True, slots=True)
class Built:
    """What is published."""

    sdist: Path
    wheel: Path

    def in_wheel(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return {name for name in archive.namelist() if ".dist-info/" not in name}

    def in_sdist(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment that holds the wheel, and a folder far from the checkout to work in."""

    scripts: Path
    site: Path
    folder: Path

    def run(self, *command: str, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; nothing of the caller's paths reaches it."""
        clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.run(
            [self.scripts / command[0], *command[1:]],
            cwd=self.folder,
            env=clean,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the sdist, and from it the wheel, in a copy: a build leaves folders behind."""
    copy = tmp_path_factory.mktemp("built") / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", str(copy)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = (copy / "dist").glob("*.tar.gz"), (copy / "dist").glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the wheel in an environment of its own; the libraries are those of this one, and come after it."""
    place = tmp_path_factory.mktemp("installed")
    environment, folder = place / "environment", place / "folder"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", built.wheel], check=True, timeout=100)
    (site,) = (environment / "lib").glob("python3*/site-packages")
    libraries = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    # A line of a .pth file comes to the end of the path, and .pth files there, an editable install's, are not read.
    (site / "libraries.pth").write_text("\n".join(libraries), encoding="utf-8")
    return Installed(environment / "bin", site, folder)


def _sources(folder: str) -> set[str]:
    """Every file of a package in the checkout, as a path within a wheel."""
    there = MAPPED.get(folder, folder)
    files = [path for path in (ROOT / there).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {f"{folder}/{path.relative_to(ROOT / there).as_posix()}" for path in files}


def test_wheel_holds_every_file_of_the_packages_and_no_other_name_at_the_top(built: Built) -> None:
    expected = {"nire_live.py"}.union(*map(_sources, ("nire", "drivers", "stream", *MAPPED)))
    assert built.in_wheel() == expected


def test_sdist_holds_what_a_reader_of_the_checkout_sees(built: Built) -> None:
    files = built.in_sdist()
    assert {"README.md", "LICENSE", "Makefile", "setup.py", "constraints.txt", "requirements.txt", ".ci/check"} <= files
    for folder in ("nire", "drivers", "stream", "benchmarks", "configs", "docs", "examples", "tests"):
        assert _sources(folder) <= files
    assert not [name for name in files if name.endswith(".pyc")]


def test_packages_come_from_the_wheel(installed: Installed) -> None:
    names = ("nire_live", "nire", "drivers", "stream", "stream._benchmarks")
    code = f"import importlib\nfor name in {names}: print(importlib.import_module(name).__file__)"
    done = installed.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert [Path(line).is_relative_to(installed.site) for line in done.stdout.split()] == [True] * len(names)
    for name in ("benchmarks", "configs"):
        assert installed.run("python", "-c", f"import {name}").returncode == 1


def test_demo_runs_from_the_wheel(installed: Installed) -> None:
    done = installed.run("nire-live", "demo", "--headless", "--seconds", "5", "--out", "shown", timeout_s=200)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = installed.folder / "shown"
    assert (shown / "summary.json").is_file()
    assert list(shown.glob("*.png"))


def test_bench_runs_from_the_wheel_also_what_starts_processes(installed: Installed) -> None:
    done = installed.run("nire-live", "bench", "--help")
    assert done.returncode == 0, done.stderr
    assert "end_to_end" in done.stdout
    done = installed.run("nire-live", "bench", "wire", "--json", "wire.json")
    assert done.returncode == 0, done.stderr
    assert "frames_per_s" in (installed.folder / "wire.json").read_text(encoding="utf-8")


def test_configs_come_along_and_are_good(installed: Installed) -> None:
    done = installed.run("nire-live", "config")
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == sorted(path.stem for path in (ROOT / "configs").glob("*.toml"))
    done = installed.run("nire-live", "config", "synthetic")
    assert done.stdout == (ROOT / "configs" / "synthetic.toml").read_text(encoding="utf-8")
    (installed.folder / "my.toml").write_text(done.stdout, encoding="utf-8")
    done = installed.run("nire-live", "check", "my.toml", *FREE_PORTS)
    assert done.returncode == 0, done.stderr


def test_missing_sdk_is_installed_by_the_name_of_the_package(installed: Installed) -> None:
    done = installed.run("python", "-c", "from nire.install import pip_install as p; print(p('davis'))")
    assert done.stdout.strip() == "pip install 'nire-live[davis]'", done.stderr
