"""What every process of a stream does at birth."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PINNED = """
import numpy as np
from stream.processes.board import private_kb
from stream.processes.child import give_large_blocks_back
{prepare}
np.ones(1 << 20)  # freed at once
before = private_kb()
large, small = [], []
for _ in range(20):
    large.append(np.ones(1 << 20))
    small.append(np.ones(1 << 11))
large.clear()
print((private_kb() - before) // 1024)
"""


def kept_mb(prepare: str) -> int:
    """What a process keeps of 160 MB that it has freed, where small blocks were made in between."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    words = [sys.executable, "-c", _PINNED.format(prepare=prepare)]
    root = Path(__file__).parents[3]
    done = subprocess.run(words, cwd=root, env=environment, check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_freed_windows_are_not_kept_between_small_blocks() -> None:
    if kept_mb("") < 100:
        pytest.skip("this C library gives large blocks back anyway")
    assert kept_mb("give_large_blocks_back()") < 10
