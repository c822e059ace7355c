"""A running pipeline to measure: the real command in its own processes, a subscriber here, an eye on their memory."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from stream.sockets.subscriber import Subscriber

from .ports import free_address

EDI = ('reconstructor.backend="edi"',)
NANO = ('reconstructor.backend="neural"', 'reconstructor.size="nano"')
"""Overrides of the config that fix the method."""
_SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process held `at_s` seconds after the start: private memory (RssAnon), open files and threads."""

    at_s: float
    private_mb: float
    open_files: int
    threads: int


@dataclass(slots=True)
class Memory:
    """What the pipeline's processes held over time, by their names."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def peak_mb(self, process: str) -> float:
        """Largest value seen of one process; 0 where it was never seen."""
        return max((sample.private_mb for sample in self.samples.get(process, [])), default=0.0)


@dataclass(slots=True)
class Pipeline:
    """A pipeline that runs: where to subscribe, and what its processes take."""

    address: str
    control: str
    memory: Memory
    process: subprocess.Popen[bytes]


@contextmanager
def running(recording: Path, overrides: Sequence[str], arguments: Sequence[str] = ()) -> Iterator[Pipeline]:
    """Replay a recording through real processes until the block ends."""
    address, control = free_address(), free_address()
    words = [sys.executable, "-m", "stream.cli", "replay", "CONFIG", str(recording), "--log-level", "ERROR", *arguments]
    # A spare loads for seconds, in the middle of what is measured.
    for override in ["reconstructor.spares=0", f'publish.bind="{address}"', f'control.bind="{control}"', *overrides]:
        words += ["--set", override]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "bench.toml"
        config.write_text('[source]\ndriver = "auto"\n', encoding="utf-8")
        words[words.index("CONFIG")] = str(config)
        process = subprocess.Popen(words)
        memory, stop = Memory(), threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, memory, stop), daemon=True)
        watcher.start()
        try:
            yield Pipeline(address, control, memory, process)
        finally:
            stop.set()
            watcher.join()
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True, slots=True)
class Received:
    """What a subscriber got: message headers, and how long it took."""

    headers: list[dict[str, Any]]
    seconds: float

    @property
    def fps(self) -> float:
        """Messages a second."""
        return (len(self.headers) - 1) / self.seconds if self.seconds > 0 else 0.0

    @property
    def latencies_ms(self) -> list[float]:
        """Newest data needed received -> published."""
        stamps = [header["stamps"] for header in self.headers]
        return [(s["published_ns"] - s["received_ns"]) / 1e6 for s in stamps]


def receive(
    pipeline: Pipeline, topic: str, *, seconds: float, settle_s: float = 2.0, patience_s: float = 60
) -> Received:
    """Subscribe, let the pipeline settle, then take every message for some seconds, and two at least.

    Raises:
        RuntimeError: nothing arrived in time, or the pipeline ended.
    """
    subscriber = Subscriber(pipeline.address, [topic], high_water_mark=10_000)
    try:
        _await_first(pipeline, subscriber, topic, patience_s)
        settled = time.perf_counter() + settle_s
        while time.perf_counter() < settled:
            subscriber.recv(timeout_ms=200)
        headers: list[dict[str, Any]] = []
        start = time.perf_counter()
        last = start
        while time.perf_counter() < start + (seconds if len(headers) > 1 else patience_s):
            message = subscriber.recv(timeout_ms=200)
            if message is not None:
                headers.append(message.header)
                last = time.perf_counter()
        return Received(headers, last - start)
    finally:
        subscriber.close()


def await_first(pipeline: Pipeline, topic: str, *, patience_s: float = 60) -> None:
    """Subscribe, and wait for a message.

    Raises:
        RuntimeError: nothing arrived in time, or the pipeline ended.
    """
    with Subscriber(pipeline.address, [topic]) as subscriber:
        _await_first(pipeline, subscriber, topic, patience_s)


def _await_first(pipeline: Pipeline, subscriber: Subscriber, topic: str, patience_s: float) -> None:
    if subscriber.recv(timeout_ms=int(patience_s * 1000)) is None:
        raise RuntimeError(f"no message on {topic} within {patience_s:g} s; exit code {pipeline.process.poll()}")


def _watch(pid: int, memory: Memory, stop: threading.Event) -> None:
    start = time.monotonic()
    while not stop.wait(_SAMPLE_S):
        try:
            children = psutil.Process(pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for child in children:
            name, megabytes = _role(child), _private_mb(child.pid)
            with contextlib.suppress(psutil.Error):
                if name and megabytes:
                    sample = Sample(time.monotonic() - start, megabytes, child.num_fds(), child.num_threads())
                    memory.samples.setdefault(name, []).append(sample)


def _role(process: psutil.Process) -> str:
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    return next((role for role in ("producer", "consumer") if role in title), "")


def _private_mb(pid: int) -> float:
    """RssAnon: shared pages count once, for the ring."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("RssAnon")), 0.0)
