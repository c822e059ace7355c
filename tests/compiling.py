"""Compile a C++ program against libzmq, where there is a compiler; else the test is skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def compiled(source: Path, folder: Path) -> Path:
    """The program, in `folder`; warnings are errors."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    (folder / "probe.cpp").write_text("#include <zmq.h>\nint main() { return zmq_errno(); }\n")
    if subprocess.run([compiler, "probe.cpp", "-lzmq"], cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip("needs libzmq with its header (Debian package libzmq3-dev)")
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{EXAMPLES}"]
    words = [compiler, *flags, str(source), "-o", str(folder / source.stem), "-lzmq"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / source.stem
