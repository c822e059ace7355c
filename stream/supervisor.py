"""The supervisor: starts, watches, restarts and stops the processes of one stream."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

from stream import child, ring
from stream.board import Board, State
from stream.clock import now_ns
from stream.config import Config
from stream.log import ChildLines
from stream.sources import SourceOrder

STEP_S = 5.0
"""What a process has for each step of being stopped: an order, then SIGTERM, then SIGKILL."""
RESTARTS = 5
RESTARTS_WITHIN_S = 60.0
_TICK_S = 0.1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the process table.

    Attributes:
        name: of the process and its row on the board.
        main: what it does, "module:function"; see `stream.child.live`.
        arguments: picklable.
        stuck_s: a sign of life older than this means stuck; starting may take ten times as long.
        holds_go: the producer starts to deliver when this process is ready.
    """

    name: str
    main: str
    arguments: tuple[Any, ...]
    stuck_s: float = 15.0
    holds_go: bool = False


def process_table(config: Config, order: SourceOrder, *, preview: bool, record_to: Path | None) -> list[Job]:
    """The processes of a stream, in the order in which they start; they stop in reverse."""
    table = [
        Job("consumer", "stream.consumer:main", (config,), holds_go=True),
        Job("recorder", "stream.recorder:main", (config, record_to), holds_go=True),
        Job("preview", "stream.preview_process:main", (config,)),
        Job("producer", "stream.producer:main", (config, order)),
    ]
    absent = {"recorder"} if record_to is None else set()
    absent |= set() if preview else {"preview"}
    return [job for job in table if job.name not in absent]


def run(
    config: Config,
    source: SourceOrder,
    *,
    preview: bool = False,
    seconds: float | None = None,
    record_to: Path | None = None,
    table: list[Job] | None = None,
    on_tick: Callable[[Board], None] | None = None,
) -> int:
    """Run a stream until its source ends, `seconds` have passed, or somebody says stop.

    SIGINT and SIGTERM end everything in order. Call it from the main thread.

    Args:
        config: of the stream.
        source: what to play.
        preview: serve the page too.
        seconds: from the first delivery; None = no limit.
        record_to: also write a recording.
        table: other processes, for tests.
        on_tick: called about ten times a second with the board, for a summary on the terminal.

    Returns:
        Exit code: 0 done, else that of the process that could not go on.

    Raises:
        RingError: a stream of this name is running.
    """
    jobs = table or process_table(config, source, preview=preview, record_to=record_to)
    with Board.create(config.stream_name, [job.name for job in jobs]) as board:
        ring.sweep(config.stream_name)  # what a killed supervisor left
        supervisor = Supervisor(config.stream_name, jobs, board, seconds=seconds, on_tick=on_tick)
        try:
            with _signals_to(supervisor.stop):
                return supervisor.run()
        finally:
            board.remove()
            if not ring.sweep(config.stream_name):
                _log.warning("other processes still use the rings of %s", config.stream_name)


@dataclass(slots=True)
class _Running:
    """A process while it lives.

    Attributes:
        job: its line of the table.
        process, orders, lines: of the present life.
        starts_s: when it was started, newest last.
        exit_code: of the last life; None while it lives.
        done: it will not be started again.
    """

    job: Job
    process: BaseProcess
    orders: Connection
    lines: Connection
    collected: ChildLines
    starts_s: deque[float] = field(default_factory=deque)
    exit_code: int | None = None
    gone: bool = False


class Supervisor:
    """The loop. `stop` may be called from a signal handler."""

    def __init__(
        self,
        stream_name: str,
        jobs: list[Job],
        board: Board,
        *,
        seconds: float | None = None,
        on_tick: Callable[[Board], None] | None = None,
        out: TextIO | None = None,
    ) -> None:
        """Prepare; nothing is started yet."""
        self._stream_name = stream_name
        self._jobs = jobs
        self._board = board
        self._seconds = seconds
        self._on_tick = on_tick
        self._out = out or sys.stderr
        self._running: dict[str, _Running] = {}
        self._stopping = False
        self._went_s: float | None = None
        self._exit_code = 0

    def stop(self) -> None:
        """Ask for the end, in order."""
        self._stopping = True

    def run(self) -> int:
        """Start, watch, and stop all.

        Returns:
            Exit code.
        """
        try:
            for job in self._jobs:
                self._running[job.name] = self._start(job)
            while not self._stopping and not self._is_done():
                self._serve(_TICK_S)
                self._watch()
                if self._on_tick is not None:
                    self._on_tick(self._board)
        finally:
            self._stop_all()
        return self._exit_code

    # Watching

    def _serve(self, timeout_s: float) -> None:
        """Wait for lines, wishes and ends, and take them."""
        alive = [it for it in self._running.values() if not it.gone]
        sources: dict[Any, _Running] = {}
        for it in alive:
            sources |= {it.lines: it, it.orders: it, it.process.sentinel: it}
        for ready in wait(list(sources), timeout_s):
            it = sources[ready]
            if ready is it.lines:
                it.collected.read_from(it.lines.fileno())
            elif ready is it.orders:
                self._hear(it)

    def _hear(self, it: _Running) -> None:
        try:
            wish = it.orders.recv()
        except (EOFError, OSError):
            return  # it has ended; its sentinel says so too
        if wish["order"] == "stop":
            _log.info("stop was asked for over the control socket")
            self.stop()
        elif wish["order"] == "set_source":
            self._order("producer", wish)

    def _watch(self) -> None:
        for it in list(self._running.values()):
            if it.gone:
                continue
            if not it.process.is_alive():
                self._bury(it)
                self._after_end(it)
            else:
                self._check_stuck(it)
        self._let_go()

    def _after_end(self, it: _Running) -> None:
        """A process has ended by itself: was it done, did it refuse, or did it crash?"""
        code = it.exit_code
        if code == 0:
            _log.info("%s is done", it.job.name)
            if it.job.name == "consumer":
                self.stop()  # nobody publishes any more
            return
        if code is not None and code > 1:
            self._exit_code = self._exit_code or code
            if code != 4:  # a damaged recording: the others finish what was delivered before the damage
                self.stop()
            return
        _log.error("%s %s", it.job.name, _cause(code))
        if it.job.name != "producer" and self._producer_is_gone():
            self._give_up(it, "its producer has ended, there is nothing to start it again for")
        elif code == 1 and self._board.row(it.job.name).state == State.STARTING and len(it.starts_s) == 1:
            self._give_up(it, "it never got ready, so it would fail again")
        elif self._may_restart(it):
            self._running[it.job.name] = self._start(it.job, it.starts_s)
        else:
            self._give_up(it, f"it ended {RESTARTS + 1} times within {RESTARTS_WITHIN_S:g} s")

    def _may_restart(self, it: _Running) -> bool:
        recent = [start_s for start_s in it.starts_s if time.monotonic() - start_s < RESTARTS_WITHIN_S]
        return len(recent) <= RESTARTS

    def _give_up(self, it: _Running, why: str) -> None:
        self._exit_code = self._exit_code or 1
        last = "\n".join(f"    {line}" for line in it.collected.last) or "    (it said nothing)"
        print(
            f"error: {it.job.name} {_cause(it.exit_code)}; {why}. Its last lines:\n{last}", file=self._out, flush=True
        )
        self.stop()

    def _check_stuck(self, it: _Running) -> None:
        row = self._board.row(it.job.name)
        if row["pid"] != it.process.pid:
            age_s = time.monotonic() - it.starts_s[-1]
        else:
            age_s = (now_ns() - row["heartbeat_ns"]) * 1e-9
        starting = row["pid"] != it.process.pid or row.state == State.STARTING
        if age_s > it.job.stuck_s * (10 if starting else 1):
            _log.error("%s has given no sign of life for %.0f s: it is killed", it.job.name, age_s)
            it.process.kill()

    def _let_go(self) -> None:
        """Tell a waiting producer to deliver, when those that must not miss anything are ready."""
        if "producer" not in self._running or self._running["producer"].gone:
            return
        if self._board.row("producer").state != State.WAITING:
            return
        holders = (self._board.row(job.name) for job in self._jobs if job.holds_go)
        if all(row.state in (State.READY, State.RUNNING) for row in holders):
            self._order("producer", {"order": "go"})
            self._went_s = self._went_s or time.monotonic()

    def _is_done(self) -> bool:
        if self._seconds is not None and self._went_s is not None and time.monotonic() - self._went_s >= self._seconds:
            return True
        return all(it.gone for name, it in self._running.items() if name != "preview")

    def _producer_is_gone(self) -> bool:
        return "producer" in self._running and self._running["producer"].gone

    # Starting and stopping

    def _start(self, job: Job, starts_s: deque[float] | None = None) -> _Running:
        orders, child_orders = Pipe()
        lines, child_lines = Pipe(duplex=False)
        level = logging.getLevelName(logging.getLogger().getEffectiveLevel())
        post = child.Post(job.name, self._stream_name, child_orders, child_lines, os.getpid(), level)
        process = child.spawn(post, job.main, job.arguments)
        child_orders.close()
        child_lines.close()
        starts = starts_s if starts_s is not None else deque(maxlen=RESTARTS + 1)
        starts.append(time.monotonic())
        return _Running(job, process, orders, lines, ChildLines(job.name, self._out), starts)

    def _stop_all(self) -> None:
        for it in reversed(list(self._running.values())):
            self._stop_one(it)

    def _stop_one(self, it: _Running) -> None:
        """An order, then SIGTERM, then SIGKILL; `STEP_S` each."""
        steps = (
            lambda: self._order(it.job.name, {"order": "stop"}),
            it.process.terminate,
            it.process.kill,
        )
        for step in steps:
            if it.gone:
                return
            step()
            self._await_end(it)

    def _await_end(self, it: _Running) -> None:
        deadline_s = time.monotonic() + STEP_S
        while it.process.is_alive() and time.monotonic() < deadline_s:
            self._serve(_TICK_S)  # all children's lines: a full pipe must not keep one from ending
        if not it.process.is_alive():
            self._bury(it)
            if it.exit_code not in (0, None) and self._exit_code == 0:
                self._exit_code = it.exit_code if it.exit_code > 1 else 1

    def _bury(self, it: _Running) -> None:
        """Take what an ended process leaves behind."""
        it.process.join()
        it.exit_code = it.process.exitcode
        with contextlib.suppress(OSError, EOFError):
            while it.lines.poll() and it.collected.read_from(it.lines.fileno()):
                pass
        it.collected.finish()
        it.lines.close()
        it.orders.close()
        it.process.close()
        it.gone = True

    def _order(self, name: str, order: dict[str, Any]) -> None:
        it = self._running[name]
        with contextlib.suppress(OSError):  # it ends at this very moment; the next look at it notices
            it.orders.send(order)


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


@contextlib.contextmanager
def _signals_to(stop: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM ask for an orderly end instead of raising; a second one changes nothing."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
