"""One process of a stream, as its supervisor holds it: started, told, listened to, and buried."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TextIO

from stream.processes import child
from stream.processes.log import ChildLines
from stream.processes.orders import Orders

RESTARTS = 5
RESTARTS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the process table.

    Attributes:
        name: of the process and its row on the board.
        main: what it does, "module:function"; see `stream.processes.child.live`.
        arguments: picklable.
        stuck_s: a sign of life older than this means stuck; starting may take ten times as long.
        holds_go: the producer starts to deliver when this process is ready.
        is_extra: the stream goes on without it, however it ends.
    """

    name: str
    main: str
    arguments: tuple[Any, ...]
    stuck_s: float = 15.0
    holds_go: bool = False
    is_extra: bool = False


class RunningProcess:
    """A job's present life, and the memory of the ones before.

    Attributes:
        job: its line of the table.
        orders: two-way: orders to it, wishes from it.
        lines: what it prints arrives here.
        exit_code: of the last life; None while it lives.
        gone: it has ended and was buried.
    """

    def __init__(self, job: Job, stream_name: str, out: TextIO) -> None:
        """Start the first life."""
        self.job = job
        self._stream_name = stream_name
        self._out = out
        self._starts_s: deque[float] = deque(maxlen=RESTARTS + 1)
        self.start()

    def start(self) -> None:
        """Start a life."""
        self.orders, child_orders = Orders.pair()
        self.lines, child_lines = Pipe(duplex=False)
        self.exit_code: int | None = None
        self.gone = False
        self._collected = ChildLines(self.job.name, self._out)
        level = logging.getLevelName(logging.getLogger().getEffectiveLevel())
        post = child.Post(self.job.name, self._stream_name, child_orders, child_lines, os.getpid(), level)
        self.process = child.spawn(post, self.job.main, self.job.arguments)
        child_orders.close()
        child_lines.close()
        self._starts_s.append(time.monotonic())

    @property
    def is_first_life(self) -> bool:
        """It was never started again."""
        return len(self._starts_s) == 1

    @property
    def may_restart(self) -> bool:
        """Fewer than `RESTARTS` restarts within `RESTARTS_WITHIN_S`."""
        now_s = time.monotonic()
        return sum(now_s - start_s < RESTARTS_WITHIN_S for start_s in self._starts_s) <= RESTARTS

    @property
    def age_s(self) -> float:
        """Seconds since the present life began."""
        return time.monotonic() - self._starts_s[-1]

    @property
    def last_lines(self) -> list[str]:
        """What it printed last."""
        return self._collected.last

    @property
    def cause(self) -> str:
        """How the last life ended, in words."""
        if self.exit_code is not None and self.exit_code < 0:
            return f"was ended by {signal.Signals(-self.exit_code).name}"
        return f"ended with exit code {self.exit_code}"

    def waitables(self) -> list[Connection | Orders | int]:
        """What becomes ready when it prints, wishes, or ends."""
        return [] if self.gone else [self.lines, self.orders, self.process.sentinel]

    def order(self, order: dict[str, Any]) -> bool:
        """Tell it something, without waiting.

        Returns:
            Whether it is on its way: not where it has ended, or does not listen.
        """
        return not self.gone and self.orders.send(order)

    def hear(self) -> dict[str, Any] | None:
        """Take a wish; None where it has ended instead."""
        try:
            return self.orders.receive()
        except EOFError:
            return None

    def print_lines(self) -> None:
        """Pass on what waits."""
        self._collected.read_from(self.lines.fileno())

    def bury(self) -> bool:
        """Take what an ended process leaves behind; False while it lives."""
        if self.gone or self.process.is_alive():
            return self.gone
        self.process.join()
        self.exit_code = self.process.exitcode
        with contextlib.suppress(OSError, EOFError):
            while self.lines.poll() and self._collected.read_from(self.lines.fileno()):
                pass
        self._collected.finish()
        self.lines.close()
        self.orders.close()
        self.process.close()
        self.gone = True
        return True
