"""A stream that is started by the command line, as a user starts it, and ended when its block ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stream.rings.place import RingSpace
from stream.sockets.subscriber import Subscriber
from stream.sockets.wire import Message
from tests.stream.command import ROOT, Done, run
from tests.system.live_stream import free_ports, until_ended
from tests.waiting import PATIENCE_S

# Nothing may be thinned out or dropped where every image is compared, however slow the machine.
EVERYTHING = ("plan.rate_hz=500", "plan.time_budget_ms=60000", "publish.high_water_mark=100000")


class Command:
    """A streaming command in a process of its own. Leaving the block ends it."""

    def __init__(self, *arguments: str | Path, settings: tuple[str, ...] = ()) -> None:
        publish, control, preview = free_ports(3)
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.publish, self.control = f"tcp://127.0.0.1:{publish}", f"tcp://127.0.0.1:{control}"
        every = [
            "reconstructor.spares=0",
            f"source.name={self.name}",
            f"publish.bind={self.publish}",
            f"control.bind={self.control}",
            f"preview.bind=127.0.0.1:{preview}",
            *settings,
        ]
        command = [sys.executable, "-m", "stream.cli", *map(str, arguments)]
        command += [word for setting in every for word in ("--set", setting)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.ctrl_c()
        done = self.wait()
        if kind is not None:
            print(done.err, file=sys.stderr)

    def ctrl_c(self) -> None:
        """What a terminal does: SIGINT to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> Done:
        """Wait for the end."""
        if self.process.stderr is None or self.process.stderr.closed:
            return Done(self.process.returncode, "", "")
        os.set_blocking(self.process.stderr.fileno(), True)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return Done(self.process.returncode, out, self._said + err)

    def until(self, what: Callable[[], Any]) -> Any:
        """Wait until something is true, and give it."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            if result := what():
                return result
            assert self.process.poll() is None, self.wait().err
            time.sleep(0.005)
        raise AssertionError(f"not within {PATIENCE_S:g} s")

    def until_said(self, words: str) -> None:
        """Wait until the log has these words."""
        assert self.process.stderr is not None
        log = self.process.stderr.fileno()
        os.set_blocking(log, False)

        def said() -> bool:
            with contextlib.suppress(BlockingIOError):
                self._said += os.read(log, 65_536).decode()
            return words in self._said

        self.until(said)

    def ctl(self, command: str, *arguments: str) -> Done:
        """Ask by the command line."""
        return run("ctl", command, *arguments, "--address", self.control)

    def received(self, topic: str) -> Iterator[Message]:
        """All messages of a topic until the stream ends."""
        with Subscriber(self.publish, [topic], high_water_mark=100_000) as subscriber:
            yield from until_ended(subscriber, self.process)

    def left(self) -> list[Any]:
        """What it left in shared memory."""
        return list(RingSpace.of(self.name).leftovers())
