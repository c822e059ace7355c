"""The import contracts hold, and each of them catches a violation planted in a copy of the packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("nire", "drivers", "stream")

# One violation per way of breaking a contract: the contract, the file that gets a line, the line.
VIOLATIONS = [
    ("one-way", "nire/types.py", "import drivers.source"),
    ("one-way", "drivers/source.py", "import stream.clock"),
    ("nire-runs-alone", "nire/types.py", "import multiprocessing"),
    ("nire-runs-alone", "nire/types.py", "import zmq"),
    ("nire-runs-alone", "nire/errors.py", "import pydantic"),
    ("nire-runs-alone", "nire/types.py", "import dv_processing"),
    ("drivers-stay-light", "drivers/source.py", "import torch"),
    ("drivers-stay-light", "drivers/source.py", "def later():\n    import zmq"),
    ("drivers-stay-light", "drivers/source.py", "import nire.backends"),
    ("drivers-stay-light", "drivers/source.py", "import nire.integral.double_integral"),  # torch, through another file
    ("pure-core", "stream/sockets/wire.py", "import socket"),
    ("pure-core", "stream/config.py", "import multiprocessing"),
    ("pure-core", "stream/clock.py", "import nire.planes"),  # torch, through another file
    ("pure-core", "stream/session/session.py", "import stream.rings.ring"),
    ("light-processes", "stream/rings/ring.py", "import nire.planes"),
    ("light-processes", "stream/processes/board.py", "import nire.backends.passthrough"),
    ("torch-users", "nire/types.py", "import torch.nn.functional"),
    ("torch-users", "stream/sockets/wire.py", "def later():\n    from torch import Tensor"),
    ("ring-transport", "stream/rings/ring.py", "import iceoryx2"),
    ("engine-packages", "nire/engines/eager.py", "import openvino"),
    ("recordings-apart", "drivers/recordings/npz.py", "import drivers.recordings.video"),
    ("recordings-apart", "drivers/recordings/text/lines.py", "import drivers.recordings.aedat4.file"),
    ("cameras-apart", "drivers/cameras/davis346.py", "import drivers.cameras.synthetic"),
    ("pure-core", "stream/windows/tape.py", "import threading"),
    ("backends-apart", "nire/backends/edi.py", "import nire.backends.passthrough"),
]

PURE = ["windows", "session", "clock", "config", "processes.latency", "sockets.event_image", "sockets.wire"]
PURE += ["rings.packets", "rings.reordering"]
LIGHT = ["processes.board", "processes.producer", "processes.recorder", "rings.ring"]

# Files that a contract must name as soon as they exist: (contract, its key, modules).
NAMED = [
    ("pure-core", "source_modules", [f"stream.{name}" for name in PURE]),
    ("light-processes", "source_modules", [f"stream.{name}" for name in LIGHT]),
    (
        "drivers-stay-light",
        "forbidden_modules",
        ["nire.backends", "nire.engines", "nire.network", "nire.training"],
    ),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages' sources and of the contracts, to be damaged."""
    for package in PACKAGES:
        for source in (ROOT / package).rglob("*.py"):
            target = tmp_path / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def test_every_contract_holds(copy: Path) -> None:
    result = _lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS)
def test_contract_catches_a_planted_violation(copy: Path, contract: str, file: str, line: str) -> None:
    with (copy / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    result = _lint(copy, "--contract", contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout
    assert Path(file).with_suffix("").as_posix().replace("/", ".") in result.stdout


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract["id"] for contract in _contracts()} == {contract for contract, _, _ in VIOLATIONS}


@pytest.mark.parametrize(("contract", "key", "modules"), NAMED)
def test_contract_names_every_room_of_its_group_that_exists(contract: str, key: str, modules: list[str]) -> None:
    named = next(entry for entry in _contracts() if entry["id"] == contract)[key]
    missing = [module for module in modules if _exists(module) and module not in named]
    assert not missing, f"add {missing} to {key} of the contract {contract!r} in pyproject.toml"


def _contracts() -> list[dict[str, Any]]:
    contracts: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    return contracts


def _exists(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def _lint(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A process of its own: the linter finds packages through the import system, where ours are loaded already.
    lint = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [lint, "--no-cache", *arguments], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
