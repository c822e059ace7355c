"""The supervisor: starts, watches, restarts and stops the processes of one stream."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TextIO

from nire.errors import RecordingDamaged
from stream.clock import now_ns
from stream.config import Config
from stream.processes import log as logs
from stream.processes.board import Board, State
from stream.processes.supervised import RESTARTS, RESTARTS_WITHIN_S, Job, Life, RunningProcess
from stream.rings import place, ring
from stream.sources import SourceOrder

STEP_S = 5.0
"""What a process has for each step of being stopped: an order, then SIGTERM, then SIGKILL."""
DAMAGED = RecordingDamaged.exit_code
_TICK_S = 0.1
_OWNER = {"set_source": "producer", "play": "producer", "source_set": "consumer"}
_STARTING_PATIENCE = 10
_log = logging.getLogger(__name__)


def process_table(config: Config, order: SourceOrder, *, preview: bool, record_to: Path | None) -> list[Job]:
    """The processes of a stream, in the order in which they start; they stop in reverse."""
    spare = "stream.processes.method:make_ready" if config.reconstructor.spares else ""
    table = [
        Job("consumer", "stream.processes.consumer:main", (config,), holds_go=True, spare=spare),
        Job("recorder", "stream.processes.recorder:main", (config, record_to), holds_go=True, optional=True),
        Job("preview", "stream.processes.preview:main", (config,), optional=True),
        Job("producer", "stream.processes.producer:main", (config, order)),
    ]
    absent = {"recorder"} if record_to is None else set()
    absent |= set() if preview else {"preview"}
    return [job for job in table if job.name not in absent]


def extra_recorder(config: Config, path: Path) -> Job:
    """A recorder that begins while the stream runs."""
    return Job("recorder", "stream.processes.recorder:main", (config, path), optional=True, is_extra=True)


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

    SIGINT, SIGTERM and SIGHUP end everything in order. Call it from the main thread.

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
        RingError: a stream of this name is running, or the rings have no room.
    """
    place.require_writable()
    jobs = table or process_table(config, source, preview=preview, record_to=record_to)
    # A recorder may begin at any time: its row is there from the beginning.
    rows = list(dict.fromkeys([*(job.name for job in jobs), *([] if table else ["recorder"])]))
    with logs.unblocked() as out, Board.create(config.stream_name, rows) as board:
        try:
            ring.sweep(config.stream_name)  # what a killed supervisor left
            ring.require_room(config.ring)
            supervisor = Supervisor(
                config.stream_name,
                jobs,
                board,
                seconds=seconds,
                on_tick=on_tick,
                out=out,
                recorder=partial(extra_recorder, config),
            )
            with _signals_to(supervisor.stop):
                return supervisor.run()
        finally:
            board.remove()
            if not ring.sweep(config.stream_name):
                _log.warning("other processes still use the rings of %s", config.stream_name)


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
        recorder: Callable[[Path], Job] | None = None,
    ) -> None:
        """Prepare; nothing is started yet. `recorder` makes the job of one that is wished for while the stream runs."""
        self._recorder = recorder
        self._stream_name = stream_name
        self._jobs = jobs
        self._board = board
        self._seconds = seconds
        self._on_tick = on_tick
        self._out = out or sys.stderr
        self._running: dict[str, RunningProcess] = {}
        self._stopping = False
        self._went_s: float | None = None
        self._exit_code = 0
        self._missed: list[str] = []
        """What is told at the end of the processes that the stream went on without."""

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
                self._running[job.name] = RunningProcess(job, self._stream_name, self._out)
            if "recorder" in self._running:
                self._tell_recording()
            while not self._stopping and not self._is_done():
                self._serve(_TICK_S)
                self._watch()
                if self._on_tick is not None:
                    self._on_tick(self._board)
        finally:
            self._stop_all()
        for text in self._missed:
            self._say(text)
        return self._exit_code

    # Watching

    def _serve(self, timeout_s: float) -> None:
        """Wait for lines, wishes and ends, and take them."""
        lives = [(it, life) for it in self._running.values() for life in it.lives()]
        owners: dict[Any, tuple[RunningProcess, Life]] = {each: of for of in lives for each in of[1].waitables()}
        ready: Any
        for ready in wait(list(owners), timeout_s):
            it, life = owners[ready]
            wish = life.take(ready)
            if wish is not None:
                self._carry_out(it, wish)

    def _carry_out(self, of: RunningProcess, wish: dict[str, Any]) -> None:
        if wish["order"] == "stop":
            _log.info("stop was asked for over the control socket")
            self.stop()
            return
        if wish["order"] in ("record", "record_stop"):
            self._record(wish)
            return
        if wish["order"] == "keep":
            of.kept = wish["kept"]
            return
        it = self._running.get(_OWNER[wish["order"]])
        if (it is None or not it.order(wish)) and _OWNER[wish["order"]] == "producer":
            error = "the producer does not listen: it has ended, hangs, or is being started"
            of.order({"order": "source_set", "number": wish["number"], "error": error})

    def _record(self, wish: dict[str, Any]) -> None:
        """Begin or end a recording while the stream runs; the consumer is told how it went."""
        running = self._running.get("recorder")
        is_recording = running is not None and not running.gone
        error = ""
        if wish["order"] == "record_stop":
            if running is None or not is_recording or not running.order({"order": "stop"}):
                error = "nothing is being recorded"
        elif is_recording or self._recorder is None:
            error = "the stream is being recorded already: stop that recording first"
        else:
            self._board.row("recorder").clear()  # it does not go on where an earlier recording has ended
            job = self._recorder(Path(wish["path"]))
            self._running["recorder"] = RunningProcess(job, self._stream_name, self._out)
        self._tell_recording(error, number=wish["number"])

    def _tell_recording(self, error: str = "", *, number: int = 0) -> None:
        """Tell the consumer what the stream is being recorded into, for its status."""
        it, consumer = self._running.get("recorder"), self._running.get("consumer")
        path = "" if it is None or it.gone else str(it.job.arguments[1])
        if consumer is not None:
            consumer.order({"order": "recording", "number": number, "path": path, "error": error})

    def _watch(self) -> None:
        for it in self._running.values():
            if it.gone:
                continue
            if it.bury():
                self._after_end(it)
            else:
                self._check_stuck(it)
                if self._state_of(it) == State.RUNNING:
                    it.keep_spare()
        self._let_go()

    def _after_end(self, it: RunningProcess) -> None:
        """A process has ended by itself: was it done, did it refuse, or did it crash?"""
        code = it.exit_code or 0
        if code == 0 and it.job.name == "recorder":
            self._tell_recording()
        if code == 0:
            _log.info("%s is done", it.job.name)
            if it.job.name == "consumer":
                self.stop()  # nobody publishes any more
        elif code > 1 and it.job.optional:
            self._give_up(it, " ".join(it.last_lines[-1:]) or "it has said why")
        elif code > 1:
            self._exit_code = self._exit_code or code
            if code != DAMAGED:  # the others finish what was delivered before the damage
                self.stop()
        else:
            self._after_crash(it)

    def _after_crash(self, it: RunningProcess) -> None:
        _log.error("%s %s", it.job.name, it.cause)
        producer = self._running.get("producer")
        if it is not producer and producer is not None and producer.gone:
            self._give_up(it, "its producer has ended, there is nothing to start it again for")
        elif it.exit_code == 1 and it.is_first_life and self._board.row(it.job.name).state == State.STARTING:
            self._give_up(it, "it never got ready, so it would fail again")
        elif it.may_restart:
            it.start()
            if it.job.name == "consumer" and "recorder" in self._running:
                self._tell_recording()
        else:
            self._give_up(it, f"it ended {RESTARTS + 1} times within {RESTARTS_WITHIN_S:g} s")

    def _give_up(self, it: RunningProcess, why: str) -> None:
        """Do without a process for the rest of the stream, or end the stream where it cannot."""
        if not it.job.is_extra:
            self._exit_code = self._exit_code or max(1, it.exit_code or 0)
        last = "\n".join(f"    {line}" for line in it.last_lines) or "    (it said nothing)"
        ended = f"{it.cause}; {why}. Its last lines:\n{last}"
        if not it.job.optional:
            self._say(f"error: {it.job.name} {ended}")
            self.stop()
            return
        self._say(f"error: the stream goes on without its {it.job.name}, which {ended}")
        self._missed.append(f"error: the stream went on without its {it.job.name}, which {ended}")
        self._board.row(it.job.name)["state"] = State.ENDED  # nobody waits for it any more
        if it.job.name == "recorder":
            self._tell_recording(f"the recorder {it.cause}; {why}")

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def _check_stuck(self, it: RunningProcess) -> None:
        state = self._state_of(it)
        heartbeat_ns = self._board.row(it.job.name)["heartbeat_ns"]
        silent_s = it.age_s if state == State.ABSENT else (now_ns() - heartbeat_ns) * 1e-9
        patience = _STARTING_PATIENCE if state in (State.ABSENT, State.STARTING) else 1
        if silent_s > it.job.stuck_s * patience:
            _log.error("%s has given no sign of life for %.0f s: it is killed", it.job.name, silent_s)
            it.process.kill()

    def _state_of(self, it: RunningProcess) -> State:
        """Where the present life is; ABSENT as long as its row still tells of the one before."""
        row = self._board.row(it.job.name)
        return row.state if row["pid"] == it.process.pid else State.ABSENT

    def _let_go(self) -> None:
        """Tell a waiting producer to deliver, when those that must not miss anything are ready."""
        producer = self._running.get("producer")
        if producer is None or producer.gone or self._state_of(producer) != State.WAITING:
            return
        holders = [it for it in self._running.values() if it.job.holds_go and not it.gone]
        if all(self._state_of(it) in (State.READY, State.RUNNING) for it in holders):
            producer.order({"order": "go"})
            self._went_s = self._went_s or time.monotonic()

    def _is_done(self) -> bool:
        if self._seconds is not None and self._went_s is not None and time.monotonic() - self._went_s >= self._seconds:
            return True
        return all(it.gone for name, it in self._running.items() if name != "preview")

    # Stopping

    def _stop_all(self) -> None:
        for it in self._running.values():
            it.end_spare()
        for it in reversed(list(self._running.values())):
            for step in (_ask_to_stop, _terminate, _kill):
                if not it.gone:
                    step(it)
                    self._await_end(it)

    def _await_end(self, it: RunningProcess) -> None:
        _log.debug("waiting for %s to end", it.job.name)
        deadline_s = time.monotonic() + STEP_S
        while it.process.is_alive() and time.monotonic() < deadline_s:
            self._serve(_TICK_S)  # of all: a full pipe must not keep a process from ending
        if it.bury() and it.exit_code and not self._exit_code and not it.job.is_extra:
            self._exit_code = max(1, it.exit_code)


def _ask_to_stop(it: RunningProcess) -> None:
    it.order({"order": "stop"})


def _terminate(it: RunningProcess) -> None:
    it.process.terminate()


def _kill(it: RunningProcess) -> None:
    _log.warning("%s does not end: it is killed", it.job.name)
    it.process.kill()


@contextlib.contextmanager
def _signals_to(stop: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and the end of a terminal ask for an orderly end; a second one changes nothing."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup wants us to outlive the terminal
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
