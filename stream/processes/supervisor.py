"""The supervisor: starts, watches, restarts and stops the processes of one stream."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TextIO

from nire.errors import RecordingDamaged
from stream.clock import now_ns
from stream.config import Config
from stream.processes import log as logs
from stream.processes.board import Board, Row, State
from stream.processes.supervised import RESTARTS, RESTARTS_WITHIN_S, Job, Life, RunningProcess
from stream.rings import place, ring
from stream.sources import SourceOrder

STEP_S = 5.0
"""What a process has for each step of being stopped: an order, then SIGTERM, then SIGKILL."""
DAMAGED = RecordingDamaged.exit_code
_TICK_S = 0.1
_STARTING_PATIENCE = 10
_log = logging.getLogger(__name__)


def process_table(
    configs: Config | Sequence[Config], order: SourceOrder, *, preview: bool, record_to: Path | None
) -> list[Job]:
    """The processes of a stream, of one camera or several, in the order in which they start; they stop in reverse."""
    configs = _several(configs)
    shared, streams = configs[0], streams_of(configs)
    spare = "stream.processes.method:make_ready" if shared.reconstructor.spares else ""
    table = [
        Job("consumer", "stream.processes.consumer:main", (configs,), holds_go=True, spare=spare),
        Job("recorder", "stream.processes.recorder:main", (shared, record_to), holds_go=True, optional=True),
        Job("preview", "stream.processes.preview:main", (shared,), optional=True),
    ]
    table += [
        Job("producer", "stream.processes.producer:main", (config, order), stream=stream)
        for config, stream in zip(configs, streams, strict=True)
    ]
    absent = {"recorder"} if record_to is None else set()
    absent |= set() if preview else {"preview"}
    return [job for job in table if job.name not in absent]


def streams_of(configs: Sequence[Config]) -> tuple[str, ...]:
    """`Job.stream` of what belongs to each camera; "" for a camera that is alone."""
    return ("",) if len(configs) == 1 else tuple(config.stream_name for config in configs)


def extra_recorder(config: Config, path: Path, stream: str = "") -> Job:
    """A recorder that begins while the stream runs."""
    main = "stream.processes.recorder:main"
    return Job("recorder", main, (config, path), optional=True, is_extra=True, stream=stream)


def run(
    configs: Config | Sequence[Config],
    source: SourceOrder,
    *,
    preview: bool = False,
    seconds: float | None = None,
    record_to: Path | None = None,
    table: list[Job] | None = None,
    on_tick: Callable[[Board], None] | None = None,
) -> int:
    """Run a stream until its sources end, `seconds` have passed, or somebody says stop.

    SIGINT, SIGTERM and SIGHUP end everything in order. Call it from the main thread.

    Args:
        configs: of the stream; of several cameras as `stream.cameras.load_cameras` returns them.
        source: what to play.
        preview: serve the page too.
        seconds: from the first delivery; None = no limit.
        record_to: also write a recording; of one camera only.
        table: other processes, for tests.
        on_tick: called about ten times a second with the board of the first camera, for a summary on the terminal.

    Returns:
        Exit code: 0 done, else that of the process that could not go on.

    Raises:
        RingError: a stream of this name is running, or the rings have no room.
    """
    place.require_writable()
    configs = _several(configs)
    jobs = table or process_table(configs, source, preview=preview, record_to=record_to)
    # A recorder may begin at any time: its row is there from the beginning.
    rows = list(dict.fromkeys([*(job.name for job in jobs), *([] if table else ["recorder"])]))
    boards: dict[str, Board] = {}
    with logs.unblocked() as out, contextlib.ExitStack() as stack:
        try:
            for config in configs:
                boards[config.stream_name] = stack.enter_context(Board.create(config.stream_name, rows))
            for name in boards:
                ring.sweep(name)  # what a killed supervisor left
            ring.require_room(configs[0].ring, others=[config.ring for config in configs[1:]])
            recorders = {
                config.stream_name: partial(extra_recorder, config, stream=stream)
                for config, stream in zip(configs, streams_of(configs), strict=True)
            }
            supervisor = Supervisor(
                jobs,
                boards,
                seconds=seconds,
                on_tick=on_tick,
                out=out,
                recorders={} if table else recorders,
                clocks={config.stream_name: config.source.clock_of or config.stream_name for config in configs},
            )
            with _signals_to(supervisor.stop):
                return supervisor.run()
        finally:
            for board in boards.values():
                board.remove()
            for name in boards:
                if not ring.sweep(name):
                    _log.warning("other processes still use the rings of %s", name)


class Supervisor:
    """The loop. `stop` may be called from a signal handler."""

    def __init__(
        self,
        jobs: list[Job],
        boards: Mapping[str, Board],
        *,
        seconds: float | None = None,
        on_tick: Callable[[Board], None] | None = None,
        out: TextIO | None = None,
        recorders: Mapping[str, Callable[[Path], Job]] | None = None,
        clocks: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            jobs: what to start, in order.
            boards: by the name of the stream, a camera each.
            seconds: from the first delivery; None = no limit.
            on_tick: called about ten times a second with the first board.
            out: where lines go; None = stderr.
            recorders: by the name of the stream: make the job of one that is wished for while the stream runs.
            clocks: by the name of the stream, whose clock its camera has; those of one clock begin together.
        """
        self._clocks = clocks or {}
        self._begun = dict.fromkeys(boards, 0)
        """How often the clock of each stream's camera has begun."""
        self._recorders = recorders or {}
        self._jobs = jobs
        self._boards = boards
        self._seconds = seconds
        self._on_tick = on_tick
        self._out = out or sys.stderr
        self._running: dict[str, RunningProcess] = {}
        """By the title of its job."""
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
                self._start(job)
            self._tell_recordings()
            while not self._stopping and not self._is_done():
                self._serve(_TICK_S)
                self._watch()
                if self._on_tick is not None:
                    self._on_tick(next(iter(self._boards.values())))
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

    def _start(self, job: Job) -> None:
        self._running[job.title] = RunningProcess(job, [job.stream] if job.stream else list(self._boards), self._out)

    def _find(self, name: str, stream: str) -> RunningProcess | None:
        """The process of a name that serves a stream."""
        return next((it for it in self._running.values() if it.job.name == name and stream in it.streams), None)

    def _carry_out(self, of: RunningProcess, wish: dict[str, Any]) -> None:
        order, stream = wish["order"], wish["stream"]
        if order == "stop":
            _log.info("stop was asked for over the control socket")
            self.stop()
        elif order == "stop_camera":
            _log.info("the stop of %s was asked for over the control socket", stream)
            self._order_producer(stream, {"order": "stop"})
        elif order in ("record", "record_stop"):
            self._record(wish)
        elif order == "keep":
            of.kept[stream] = wish["kept"]
        elif order == "source_set":
            if (consumer := self._find("consumer", stream)) is not None:
                consumer.order(wish)
        elif not self._order_producer(stream, wish):
            error = "the producer does not listen: it has ended, hangs, or is being started"
            of.order({"order": "source_set", "stream": stream, "number": wish["number"], "error": error})

    def _order_producer(self, stream: str, order: dict[str, Any]) -> bool:
        producer = self._find("producer", stream)
        return producer is not None and producer.order(order)

    def _record(self, wish: dict[str, Any]) -> None:
        """Begin or end a recording while the stream runs; the consumer is told how it went."""
        stream = wish["stream"]
        running = self._find("recorder", stream)
        is_recording = running is not None and not running.gone
        error = ""
        if wish["order"] == "record_stop":
            if running is None or not is_recording or not running.order({"order": "stop"}):
                error = "nothing is being recorded"
        elif is_recording or stream not in self._recorders:
            error = "the stream is being recorded already: stop that recording first"
        else:
            self._boards[stream].row("recorder").clear()  # it does not go on where an earlier recording has ended
            self._start(self._recorders[stream](Path(wish["path"])))
        self._tell_recording(stream, error, number=wish["number"])

    def _tell_recordings(self) -> None:
        """Tell a consumer that begins of the recordings that there were."""
        for stream in self._boards:
            if self._find("recorder", stream) is not None:
                self._tell_recording(stream)

    def _tell_recording(self, stream: str, error: str = "", *, number: int = 0) -> None:
        """Tell the consumer what a stream is being recorded into, for its status."""
        it, consumer = self._find("recorder", stream), self._find("consumer", stream)
        path = "" if it is None or it.gone else str(it.job.arguments[1])
        if consumer is not None:
            order = {"order": "recording", "stream": stream, "number": number, "path": path, "error": error}
            consumer.order(order)

    def _watch(self) -> None:
        for it in list(self._running.values()):
            if it.gone:
                continue
            if it.bury():
                self._after_end(it)
            else:
                self._check_stuck(it)
                if State.RUNNING in self._states_of(it):
                    it.keep_spare()
        self._let_go()
        self._keep_clocks_together()

    def _after_end(self, it: RunningProcess) -> None:
        """A process has ended by itself: was it done, did it refuse, or did it crash?"""
        code = it.exit_code or 0
        if code == 0 and it.job.name == "recorder":
            self._tell_recording(it.streams[0])
        if code == 0:
            _log.info("%s is done", it.job.title)
            if it.job.name == "consumer":
                self.stop()  # nobody publishes any more
        elif code > 1 and (it.job.optional or (code != DAMAGED and self._is_one_of_several(it))):
            self._give_up(it, " ".join(it.last_lines[-1:]) or "it has said why")
        elif code > 1:
            self._exit_code = self._exit_code or code
            if code != DAMAGED:  # the others finish what was delivered before the damage
                self.stop()
        else:
            self._after_crash(it)

    def _after_crash(self, it: RunningProcess) -> None:
        _log.error("%s %s", it.job.title, it.cause)
        producers = [self._find("producer", stream) for stream in it.streams]
        known = [producer for producer in producers if producer is not None]
        if it not in known and known and all(producer.gone for producer in known):
            self._give_up(it, "its producer has ended, there is nothing to start it again for")
        elif it.exit_code == 1 and it.is_first_life and all(row.state == State.STARTING for row in self._rows_of(it)):
            self._give_up(it, "it never got ready, so it would fail again")
        elif it.may_restart:
            it.start()
            if it.job.name == "consumer":
                self._tell_recordings()
        else:
            self._give_up(it, f"it ended {RESTARTS + 1} times within {RESTARTS_WITHIN_S:g} s")

    def _give_up(self, it: RunningProcess, why: str) -> None:
        """Do without a process for the rest of the stream, or end the stream where it cannot."""
        if not it.job.is_extra:
            self._exit_code = self._exit_code or max(1, it.exit_code or 0)
        last = "\n".join(f"    {line}" for line in it.last_lines) or "    (it said nothing)"
        ended = f"{it.cause}; {why}. Its last lines:\n{last}"
        if not it.job.optional and not self._is_one_of_several(it):
            self._say(f"error: {it.job.title} {ended}")
            self.stop()
            return
        self._say(f"error: the stream goes on without its {it.job.title}, which {ended}")
        self._missed.append(f"error: the stream went on without its {it.job.title}, which {ended}")
        for row in self._rows_of(it):
            row["state"] = State.ENDED  # nobody waits for it any more
        if it.job.name == "recorder":
            self._tell_recording(it.streams[0], f"the recorder {it.cause}; {why}")

    def _is_one_of_several(self, it: RunningProcess) -> bool:
        """Tell whether this is a camera's process, and other cameras are left without it."""
        others = (other for other in self._running.values() if other is not it and not other.gone)
        return it.job.name == "producer" and any(other.job.name == "producer" for other in others)

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def _check_stuck(self, it: RunningProcess) -> None:
        states = self._states_of(it)
        heartbeat_ns = max(row["heartbeat_ns"] for row in self._rows_of(it))
        silent_s = it.age_s if State.ABSENT in states else (now_ns() - heartbeat_ns) * 1e-9
        is_starting = all(state in (State.ABSENT, State.STARTING) for state in states)
        if silent_s > it.job.stuck_s * (_STARTING_PATIENCE if is_starting else 1):
            _log.error("%s has given no sign of life for %.0f s: it is killed", it.job.title, silent_s)
            it.process.kill()

    def _rows_of(self, it: RunningProcess) -> list[Row]:
        return [self._boards[stream].row(it.job.name) for stream in it.streams]

    def _states_of(self, it: RunningProcess) -> list[State]:
        """Where the present life is, by stream; ABSENT as long as a row still tells of the one before."""
        return [row.state if row["pid"] == it.process.pid else State.ABSENT for row in self._rows_of(it)]

    def _let_go(self) -> None:
        """Tell a waiting producer to deliver, when those that must not miss anything are ready for its stream."""
        for producer in self._running.values():
            if producer.job.name != "producer" or producer.gone or self._states_of(producer) != [State.WAITING]:
                continue
            (stream,) = producer.streams
            holders = [it for it in self._running.values() if it.job.holds_go and not it.gone and stream in it.streams]
            states = [self._states_of(it)[it.streams.index(stream)] for it in holders]
            if all(state in (State.READY, State.RUNNING) for state in states):
                producer.order({"order": "go"})
                self._went_s = self._went_s or time.monotonic()

    def _keep_clocks_together(self) -> None:
        """Have cameras opened again that share the clock of one that was: it begins for all of them, or for none."""
        for stream, clock in self._clocks.items():
            producer = self._find("producer", stream)
            begun = 0 if producer is None else self._boards[stream].row("producer")["clocks"]
            known, self._begun[stream] = self._begun[stream], begun
            if 0 < known < begun:
                for other in self._clocks:
                    if other != stream and self._clocks[other] == clock:
                        _log.info("%s is opened again, because it has the clock of %s", other, stream)
                        self._order_producer(other, {"order": "reopen"})

    def _is_done(self) -> bool:
        if self._seconds is not None and self._went_s is not None and time.monotonic() - self._went_s >= self._seconds:
            return True
        return all(it.gone for it in self._running.values() if it.job.name != "preview")

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
        _log.debug("waiting for %s to end", it.job.title)
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
    _log.warning("%s does not end: it is killed", it.job.title)
    it.process.kill()


def _several(configs: Config | Sequence[Config]) -> tuple[Config, ...]:
    return (configs,) if isinstance(configs, Config) else tuple(configs)


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
