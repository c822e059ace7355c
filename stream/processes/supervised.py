"""One process of a stream, as its supervisor holds it: started, told, listened to, buried, replaced by a spare."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TextIO

from stream.processes import child
from stream.processes.log import ChildLines
from stream.processes.orders import Orders

RESTARTS = 5
RESTARTS_WITHIN_S = 60.0
# The first seconds of a process belong to it: a spare takes a core while it loads. One that dies is not replaced at
# once, for it may die of the machine.
_SPARE_AFTER_S = 3.0
_NEXT_SPARE_AFTER_S = 10.0
# What a signal means where it has one cause that its name does not tell.
_MEANINGS = {
    signal.SIGBUS: "memory that it wrote to could not be had: /dev/shm is full. Free some there, lower ring.seconds or "
    "ring.peak_rate_meps, or make it larger (in a container: --shm-size)",
    signal.SIGKILL: "by a person, or by the system because memory ran out (dmesg tells)",
}


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the process table.

    Attributes:
        name: of the process and its row on the board.
        main: what it does, "module:function"; see `stream.processes.child.live`.
        arguments: picklable.
        stuck_s: a sign of life older than this means stuck; starting may take ten times as long.
        holds_go: the producer starts to deliver when this process is ready.
        optional: the stream goes on without it.
        is_extra: nobody asked for it when the stream began: its end does not change the stream's exit code.
        stream: that it is of; "" = of all that the supervisor has, with a row on the board of each.
        spare: "module:function" that makes ready, from `arguments`, what takes long: a second process does so and waits
            to take over when the first one dies. It finds what was returned in `Child.ready`. "" = no spare.
    """

    name: str
    main: str
    arguments: tuple[Any, ...]
    stuck_s: float = 15.0
    holds_go: bool = False
    optional: bool = False
    is_extra: bool = False
    stream: str = ""
    spare: str = ""

    @property
    def title(self) -> str:
        """Its name, with that of the stream where it is of one of several."""
        return f"{self.name} {self.stream}".rstrip()


class Life:
    """A process from its start to its burial.

    Attributes:
        process: as Python knows it, until it is buried.
        orders: two-way: orders to it, wishes from it.
        exit_code: None while it lives.
        gone: it has ended and was buried.
    """

    def __init__(
        self,
        job: Job,
        stream_name: str,
        out: TextIO,
        *,
        kept: dict[str, dict[str, Any]],
        others: Sequence[str] = (),
        waits: bool = False,
    ) -> None:
        """Start it.

        Args:
            job: what it does.
            stream_name: of the stream; the first one's, for a process of several.
            out: where its lines go.
            kept: what a life before wanted to be known, by the name of the stream.
            others: further streams that it serves.
            waits: it makes its spare ready and waits for the order to begin.
        """
        self.orders, child_orders = Orders.pair()
        self._lines, child_lines = Pipe(duplex=False)
        self.exit_code: int | None = None
        self.gone = False
        self._collected = ChildLines(job.title, out)
        level = logging.getLevelName(logging.getLogger().getEffectiveLevel())
        post = child.Post(
            job.name,
            stream_name,
            child_orders,
            child_lines,
            os.getpid(),
            log_level=level,
            kept=kept,
            others=tuple(others),
            spare=job.spare if waits else "",
        )
        self.process = child.spawn(post, job.main, job.arguments)
        child_orders.close()
        child_lines.close()

    @property
    def last_lines(self) -> list[str]:
        """What it printed last."""
        return self._collected.last

    def waitables(self) -> list[Connection | Orders | int]:
        """What becomes ready when it prints, wishes, or ends."""
        return [] if self.gone else [self._lines, self.orders, self.process.sentinel]

    def take(self, ready: Connection | Orders | int) -> dict[str, Any] | None:
        """Print what waits where its lines are ready; give its wish where that is."""
        if ready is self._lines:
            self._collected.read_from(self._lines.fileno())
        if ready is not self.orders:
            return None
        try:
            return self.orders.receive()
        except EOFError:
            return None

    def bury(self) -> bool:
        """Take what an ended process leaves behind; False while it lives."""
        if self.gone or self.process.is_alive():
            return self.gone
        self.process.join()
        self.exit_code = self.process.exitcode
        with contextlib.suppress(OSError, EOFError):
            while self._lines.poll() and self._collected.read_from(self._lines.fileno()):
                pass
        self._collected.finish()
        self._lines.close()
        self.orders.close()
        self.process.close()
        self.gone = True
        return True


class RunningProcess:
    """A job's present life, the memory of the ones before, and the spare for the next.

    Attributes:
        job: its line of the table.
        streams: names of those that it serves.
        kept: what its lives want the next one to know, by the name of the stream.
    """

    def __init__(self, job: Job, streams: Sequence[str], out: TextIO) -> None:
        """Start the first life."""
        self.job = job
        self.streams = tuple(streams)
        self.kept: dict[str, dict[str, Any]] = {}
        self._out = out
        self._starts_s: deque[float] = deque(maxlen=RESTARTS + 1)
        self._spare: Life | None = None
        self._next_spare_s = 0.0
        self.start()

    def start(self) -> None:
        """Start a life: the spare's, where one waits."""
        spare, self._spare = self._spare, None
        if spare is not None and spare.orders.send({"order": "begin", "kept": self.kept}):
            self._life = spare
        else:
            self._life = self._begun(kept=self.kept)
        self._starts_s.append(time.monotonic())

    def keep_spare(self) -> None:
        """Have a spare, if the job has such and the present life is old enough; call now and then while it runs."""
        if self._spare is not None and self._spare.bury():
            self._spare = None
        now_s = time.monotonic()
        if not self.job.spare or self._spare is not None or self.age_s < _SPARE_AFTER_S or now_s < self._next_spare_s:
            return
        self._next_spare_s = now_s + _NEXT_SPARE_AFTER_S
        self._spare = self._begun(kept={}, waits=True)

    def _begun(self, *, kept: dict[str, dict[str, Any]], waits: bool = False) -> Life:
        first, *others = self.streams
        return Life(self.job, first, self._out, kept=kept, others=others, waits=waits)

    def end_spare(self) -> None:
        """Do without; it has nothing to lose."""
        if self._spare is not None and not self._spare.gone:
            self._spare.process.kill()
            self._spare.process.join()
            self._spare.bury()
        self._spare = None

    @property
    def process(self) -> BaseProcess:
        """The present life's, until it is buried."""
        return self._life.process

    @property
    def gone(self) -> bool:
        """The present life has ended and was buried."""
        return self._life.gone

    @property
    def exit_code(self) -> int | None:
        """Of the present life; None while it lives."""
        return self._life.exit_code

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
        return self._life.last_lines

    @property
    def cause(self) -> str:
        """How the last life ended, in words."""
        if self.exit_code is None or self.exit_code >= 0:
            return f"ended with exit code {self.exit_code}"
        number = signal.Signals(-self.exit_code)
        meaning = f" ({_MEANINGS[number]})" if number in _MEANINGS else ""
        return f"was ended by {number.name}{meaning}"

    def lives(self) -> list[Life]:
        """The present one, and the spare's where there is one."""
        return [self._life] if self._spare is None else [self._life, self._spare]

    def order(self, order: dict[str, Any]) -> bool:
        """Tell it something, without waiting.

        Returns:
            Whether it is on its way: not where it has ended, or does not listen.
        """
        return not self.gone and self._life.orders.send(order)

    def bury(self) -> bool:
        """Take what an ended life leaves behind; False while it lives."""
        return self._life.bury()
