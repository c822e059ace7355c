"""The command line under test: in this process, which is quick, or in one of its own, as users run it."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream.cli import main
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "replay_aedat4.toml"
FREE_PORTS = ("--set", "publish.bind=tcp://127.0.0.1:*", "--set", "control.bind=tcp://127.0.0.1:*")
"""Options for commands that bind sockets: other streams may run on this machine."""
_ANSI = re.compile(r"\x1b\[[0-9;]*m")  # colours, which some machines force


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Done:
    """Run a command in this process; anything but an orderly exit (a traceback for users) fails the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    capsys.readouterr()
    try:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    out, err = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int), code
    return Done(code, _ANSI.sub("", out), _ANSI.sub("", err))


def run(*arguments: str | Path, timeout_s: float = PATIENCE_S) -> Done:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "stream.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    return Done(done.returncode, done.stdout, done.stderr)
