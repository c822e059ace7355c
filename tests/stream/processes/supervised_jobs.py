"""Small processes for the tests of the supervisor."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

from nire.errors import AcceleratorLost, ConfigError
from stream.processes.board import State
from stream.processes.child import Child


def steady(child: Child, ends: Path) -> int:
    """Live until told to stop, then write the name down."""
    child.beat(State.READY)
    while not child.stopping:
        child.orders(timeout_s=0.02)
        child.beat()
    with ends.open("a") as file:
        file.write(f"{child.row.name}\n")
    return 0


def patient(child: Child) -> int:
    """Live until killed, and listen to nobody."""
    child.beat(State.READY)
    while True:
        time.sleep(0.1)


def done(child: Child) -> int:
    """End at once."""
    child.beat(State.RUNNING)
    return 0


def killed(child: Child, until_life: int) -> int:
    """Get ready, then die, until a life."""
    child.beat(State.READY)
    print("these are my last words")
    if child.row["lives"] < until_life:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def has_no_memory(child: Child) -> int:
    """Get ready, then die as a process does that writes to shared memory that is full."""
    child.beat(State.READY)
    print("these are my last words")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # nobody wants a file of this memory
    os.kill(os.getpid(), signal.SIGBUS)
    return 0


def outlives(child: Child, others: list[str]) -> int:
    """Live until the supervisor has given up others, then be done."""
    child.beat(State.RUNNING)
    while not all(child.board.row(name).state == State.ENDED for name in others):
        child.orders(timeout_s=0.02)
        child.beat()
        if child.stopping:
            return 0
    print("I have outlived them")
    return 0


def make_ready(told: Path) -> int:
    """What a spare does ahead: it tells who it is."""
    told.with_suffix(".new").write_text(str(os.getpid()))
    told.with_suffix(".new").replace(told)
    return os.getpid()


def has_a_spare(child: Child, told: Path) -> int:
    """In the first life: wait for the spare, have something kept, and die. In the next: write down what was found."""
    child.beat(State.RUNNING)
    if child.row["lives"] == 1:
        assert child.keep({"plan": "seven"})
        while not told.exists():
            child.orders(timeout_s=0.02)
            child.beat()
        os.kill(os.getpid(), signal.SIGKILL)
    told.write_text(f"{child.ready == os.getpid()} {told.read_text() == str(os.getpid())} {child.kept['plan']}")
    return 0


def done_once_there(child: Child, file: Path) -> int:
    """Live until a file is there."""
    child.beat(State.RUNNING)
    while not file.exists():
        child.orders(timeout_s=0.02)
        child.beat()
    return 0


def refuses(child: Child) -> int:
    """Find the config wrong."""
    raise ConfigError("nothing of this can be done; do something else")


def loses_gpu(child: Child) -> int:
    """In the first life: get ready, then find the GPU failing for good."""
    child.beat(State.READY)
    if child.row["lives"] == 1:
        raise AcceleratorLost("this process has lost the GPU; see nvidia-smi")
    return 0


def waits_asleep(child: Child, told: Path) -> int:
    """Write down how torch's threads will wait."""
    told.write_text(os.environ.get("GOMP_SPINCOUNT", "not said"))
    return 0


def fails_at_once(child: Child) -> int:
    """Have a bug."""
    raise RuntimeError("a bug")


def falls_silent(child: Child) -> int:
    """In the first life: stay alive without a sign of it."""
    child.beat(State.READY)
    if child.row["lives"] == 1:
        time.sleep(3600)
    return 0


def deaf(child: Child) -> int:
    """Hear neither orders nor SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child.beat(State.READY)
    while True:
        time.sleep(0.02)
        child.beat()


def wedged(child: Child) -> int:
    """In the first life: get ready, then stand still as a hung driver does, hearing nothing."""
    child.beat(State.READY)
    if child.row["lives"] == 1:
        time.sleep(3600)
    return 0


def floods(child: Child) -> int:
    """Ask for other settings of the source as fast as it goes, until the producer has another life."""
    child.beat(State.READY)
    while child.board.row("producer")["lives"] < 2:
        child.tell({"order": "set_source", "number": 1, "settings": {"name": "x" * 1000}})
        child.orders()
        child.beat()
    return 0
