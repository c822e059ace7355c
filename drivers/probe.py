"""Look at a recording in a process of its own first, where a library in C may crash or hang over damaged bytes."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

_LIMIT_S = 20.0
_PACKETS = 4  # that are read for a try


def what_happens(driver: str, path: Path, limit_s: float = _LIMIT_S) -> str:
    """Open a recording and read its first packets in a child process.

    Args:
        driver: dotted name of its module.
        path: of the file.
        limit_s: after which the child is ended.

    Returns:
        How the child came to grief, in words; "" where it did not. Errors of Python are left to whoever opens the file.
    """
    command = [sys.executable, "-P", "-m", "drivers.probe", driver, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(place or os.curdir for place in sys.path)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return f"the library that reads it did not come back within {limit_s:g} s"
    if done.returncode >= 0:
        return ""
    name = signal.Signals(-done.returncode).name
    return f"the library that reads it crashed ({name})"


def main(driver: str, path: str) -> None:
    """Do it, in the child."""
    from drivers.recording_file import RecordingFile

    RecordingFile.is_tried_first = False
    with contextlib.suppress(Exception):
        module = importlib.import_module(driver)
        with module.open_source(path) as source:
            list(itertools.islice(source, _PACKETS))


if __name__ == "__main__":
    main(*sys.argv[1:])
