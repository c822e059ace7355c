"""A whole stream for system tests: its supervisor in a process of its own, a small synthetic camera, free ports."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from drivers.detect import open_driver, open_recording
from drivers.recordings.recording.source import RecordingWriter
from nire.errors import RecordingDamaged, RingError
from nire.types import EventBatch, Packet
from stream.config import Config, load_config
from stream.processes.board import Board, State
from stream.rings.place import RingSpace
from stream.sockets.control import ControlClient
from stream.sockets.subscriber import Subscriber
from stream.sockets.wire import Message
from tests.waiting import PATIENCE_MS, PATIENCE_S

ROOT = Path(__file__).parents[2]
SHORT = "source.settings={width = 64, height = 48, noise = 'ideal', seconds = 1.0, live = false}"
"""One second, 25 frames, of the small camera, as fast as it is taken."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for it in sockets:
            it.bind(("127.0.0.1", 0))
        return [it.getsockname()[1] for it in sockets]
    finally:
        for it in sockets:
            it.close()


def until_ended(subscriber: Subscriber, process: subprocess.Popen[str]) -> Iterator[Message]:
    """All messages until a process has ended, and those that were still on their way then."""
    ended = False
    while True:
        message = subscriber.recv(timeout_ms=1000 if ended else 100)
        if message is not None:
            yield message
        elif ended:
            return
        else:
            ended = process.poll() is not None


def small_config(*overrides: str, name: str | None = None) -> tuple[Config, list[str]]:
    """A 64 x 48 synthetic camera at 25 frames a second; also the `--set` list that makes it."""
    publish, control, preview = free_ports(3)
    settings = [
        "source.driver=synthetic",
        f"source.name={name or f'test-{uuid.uuid4().hex[:8]}'}",
        "source.settings={width = 64, height = 48, noise = 'ideal'}",
        "reconstructor.backend=passthrough",
        "reconstructor.device=cpu",
        "reconstructor.spares=0",
        "plan.rate_hz=200",
        f"publish.bind=tcp://127.0.0.1:{publish}",
        f"control.bind=tcp://127.0.0.1:{control}",
        f"preview.bind=127.0.0.1:{preview}",
        *overrides,
    ]
    return load_config(None, settings), settings


def write_short(path: Path, *first: Packet) -> None:
    """Record `SHORT`, behind some packets."""
    config, _ = small_config(SHORT)
    with (
        open_driver("synthetic", **config.source.settings) as source,
        RecordingWriter(path, source.info.geometry, source=source.info) as writer,
    ):
        for packet in (*first, *source):
            writer.write(packet)


def events_of(recording: Path, *, to_the_end: bool = True) -> int:
    """Count the events of a recording; of one that breaks off, where it need not come to its end, those before."""
    count = 0
    with (
        contextlib.nullcontext() if to_the_end else contextlib.suppress(RecordingDamaged),
        open_recording(recording) as source,
    ):
        for packet in source:
            count += len(packet) if isinstance(packet, EventBatch) else 0
    return count


class LiveStream:
    """A running stream. Leaving the block ends it and checks that nothing is left."""

    def __init__(self, *overrides: str, name: str | None = None, **order: Any) -> None:
        """Prepare; `order` is taken by `tests.system.run_stream`."""
        self.config, settings = small_config(*overrides, name=name)
        self.space = RingSpace.of(self.config.stream_name)
        command = [sys.executable, "-m", "tests.system.run_stream", *settings]
        command += [f"--{key}={value}" for key, value in order.items()]
        self.supervisor = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        processes = self.processes()
        if self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGINT)
        try:
            _, text = self.supervisor.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            _, text = self.supervisor.communicate()
        psutil.wait_procs(processes, timeout=PATIENCE_S)
        if kind is not None:
            print(text, file=sys.stderr)

    def end(self) -> tuple[int, str]:
        """Press Ctrl-C, as a terminal does it: SIGINT to the whole group. Gives exit code and log."""
        os.killpg(self.supervisor.pid, signal.SIGINT)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Wait for the end. Gives exit code and log."""
        _, text = self.supervisor.communicate(timeout=PATIENCE_S)
        return self.supervisor.returncode, text

    def processes(self) -> list[psutil.Process]:
        """All processes below the supervisor."""
        try:
            return psutil.Process(self.supervisor.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def row(self, process: str) -> dict[str, Any]:
        """A row of the board; all zero before there is one."""
        try:
            with Board.open(self.config.stream_name) as board:
                return board.row(process).values()
        except RingError:  # not there yet
            return dict.fromkeys(("lives", "pid", "exposed", "serial"), 0) | {"state": State.ABSENT.name.lower()}

    def until(self, what: Callable[[], Any]) -> Any:
        """Wait until something is true, and give it."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            if result := what():
                return result
            if self.supervisor.poll() is not None:
                raise AssertionError(f"the stream has ended:\n{self.supervisor.communicate()[1]}")
            time.sleep(0.02)
        raise AssertionError(f"not within {PATIENCE_S:g} s")

    def until_exposing(self, more: int = 5) -> None:
        """Wait until this many more frames were published than now."""
        before = self.row("consumer")["exposed"]
        self.until(lambda: self.row("consumer")["exposed"] >= before + more)

    def kill(self, process: str) -> int:
        """SIGKILL one process and wait for its next life. Gives the dead one's pid."""
        row = self.row(process)
        os.kill(row["pid"], signal.SIGKILL)
        self.until(lambda: self.row(process)["lives"] == row["lives"] + 1)
        return int(row["pid"])

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """Ask over the control socket."""
        client = ControlClient(self.config.control.bind, timeout_ms=PATIENCE_MS)
        try:
            return client.ask(command, **fields)
        finally:
            client.close()

    def is_clean(self) -> bool:
        """Whether nothing is left in shared memory and in the folder of sockets."""
        return not self.space.leftovers() and not self.space.root.exists()
