"""What every process of a stream does at birth."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

from stream.rings.place import RingSpace
from tests.waiting import PATIENCE_S, until

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

# A plane of an HD sensor, made and freed again and again.
_AGAIN = """
import resource
import numpy as np
from stream.processes.child import give_large_blocks_back
{prepare}
plane = np.ones((720, 1280), np.float32)
del plane
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    plane = np.ones((720, 1280), np.float32)
    del plane
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

# The main thread of this supervisor ends long before the process does, as it may when a busy machine kills it.
_SLOW_TO_DIE = """
import ctypes, os, signal, sys, threading, time
from stream.processes.board import Board, State
from stream.processes.supervised import Job, Life

def last_thread():
    time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    name = sys.argv[1]
    with Board.create(name, ["patient"]) as board:
        job = Job("patient", "tests.stream.processes.supervised_jobs:patient", (), 100.0)
        life = Life(job, name, sys.stderr, kept={})
        while board.row("patient").state != State.READY:
            time.sleep(0.01)
        print(life.process.pid, flush=True)
        threading.Thread(target=last_thread).start()
        ctypes.CDLL(None).pthread_exit(None)
"""
_ROOT = Path(__file__).parents[3]


def printed(script: str) -> int:
    """What a script prints in a process whose memory nobody has set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=_ROOT, env=environment, check=True, capture_output=True, text=True)
    return int(done.stdout)


def kept_mb(prepare: str) -> int:
    """What a process keeps of 160 MB that it has freed, where small blocks were made in between."""
    return printed(_PINNED.format(prepare=prepare))


def test_freed_windows_are_not_kept_between_small_blocks() -> None:
    if kept_mb("") < 100:
        pytest.skip("this C library gives large blocks back anyway")
    assert kept_mb("give_large_blocks_back()") < 10


def test_planes_of_a_large_sensor_come_from_where_the_last_ones_were() -> None:
    pages = 20 * 720 * 1280 * 4 // mmap.PAGESIZE
    if printed(_AGAIN.format(prepare="give_large_blocks_back()")) < pages // 2:
        pytest.skip("this C library keeps large blocks anyway")
    assert printed(_AGAIN.format(prepare="give_large_blocks_back(720 * 1280)")) < pages // 20


def test_windows_of_a_large_sensor_are_given_back_as_well() -> None:
    if kept_mb("") < 100:
        pytest.skip("this C library gives large blocks back anyway")
    assert kept_mb("give_large_blocks_back(720 * 1280)") < 10


def test_orphan_leaves_nothing_where_its_supervisor_dies_slowly(tmp_path: Path) -> None:
    script = tmp_path / "slow_to_die.py"
    script.write_text(_SLOW_TO_DIE, encoding="utf-8")
    name = f"test-{uuid.uuid4().hex[:8]}"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    words = [sys.executable, str(script), name]
    with subprocess.Popen(words, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        orphan = int(supervisor.stdout.readline())
        supervisor.wait(PATIENCE_S)
    until(lambda: not psutil.pid_exists(orphan))
    space = RingSpace.of(name)
    assert space.leftovers() == []
    assert not space.root.exists()
