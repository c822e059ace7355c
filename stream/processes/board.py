"""The board: one row of counters per process in shared memory; each row has one writer, everybody may read.

No locks: every value is one aligned 8-byte word, which x86-64 and ARM64 write as a whole. The supervisor makes the
board and holds a lock on its file as long as it lives: that is how a second stream of the same name finds out.
A process that is started again counts on where the one before it was killed.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from nire.errors import RingError
from stream.clock import now_ns
from stream.processes.latency import BUCKETS, LatencyHistogram
from stream.rings.place import RingSpace, is_held, open_new, open_own
from stream.session.tally import INDEX_MEMORY

COUNTERS = (
    "heartbeat_ns",  # host monotonic time of the last sign of life
    "started_ns",  # when this life of the process began
    "state",  # of State
    "pid",
    "private_kb",  # RssAnon: shared pages belong to the ring
    "life",  # consumer, recorder: producer life they read ...
    "serial",  # ... and the newest packet of it that they took,
    "event_packets",  # with what went through each ring before: a successor knows what it missed
    "event_total",
    "frame_packets",
    "frame_total",
    "watermark_us",
    "epoch",
    "epoch_base",
    "frame_epoch",  # of the newest frame, ...
    "frame_count",  # ... and one more than its index, which the camera counts; 0: none came
    "passed_life",  # producer life, and how many packets of it ...
    "passed",  # ... the reader has taken, or will not get any more
    "lives",  # how often the process began; more than 1: it was restarted
    "events_in",
    "frames_in",
    "windows",
    "exposed",
    "lost_events",
    "lost_frames",
    "lost_packets",
    "late_windows",
    "reduced_queries",
    "unanswered",  # consumer: indices that no image has
    "event_images",  # consumer: images of events that were sent
    "captured",  # consumer: index after that of the newest captured frame, ...
    "captured_ahead",  # ... by which such indices are more than the camera's count
    "captured_clock",  # ... in this epoch, counted from 1; 0: none came
    "out_of_memory",  # consumer: batches of queries that the GPU's memory did not hold
    "built_ahead",  # consumer: windows whose content was begun before they were complete
    "fallback_windows",  # consumer: windows that the fast method of a backend answered, because the best was too slow
    "gaps",
    "reopened",  # producer: how often its device came back
    "clocks",  # producer: how often its clock has begun, but for when that of another camera took it along
    "replay_at_us",  # producer: where a replay is, from the beginning of the recording
    "replay_length_us",  # ... of which length; 0: unknown
    "replay_permille",  # ... at which speed; 0: it is no replay that can be played otherwise
    "replay_held",  # ... and whether it stands still
    "refused_orders",  # orders and wishes that the other side did not take
)
"""The names of a row's words, in order."""
_OF_A_LIFE = ("private_kb", "passed_life", "passed")

_HEAD_BYTES = 4096
_ROW = np.dtype([(name, np.int64) for name in COUNTERS] + [("latency", np.int64, (BUCKETS,))])


class State(IntEnum):
    """Where a process is in its life."""

    ABSENT = 0
    STARTING = 1
    WAITING = 2  # producer: opened, waits until the consumer is ready
    READY = 3
    RUNNING = 4
    ENDED = 5


class Row:
    """One process's counters.

    Attributes:
        name: of the process.
        latency: of whole packets-to-published ways, since the start.
    """

    def __init__(self, name: str, words: Any) -> None:
        """Look at one row of the board's memory."""
        self.name = name
        self._words = words
        self.latency = LatencyHistogram(words["latency"])

    def __getitem__(self, counter: str) -> int:
        """Read a counter."""
        return int(self._words[counter])

    def __setitem__(self, counter: str, value: int) -> None:
        """Write a counter; only the row's own process does."""
        self._words[counter] = value

    @property
    def state(self) -> State:
        """Where the process is in its life."""
        return State(self["state"])

    def begin(self) -> None:
        """Start a life: STARTING, this process, one life more; totals go on."""
        for counter in _OF_A_LIFE:
            self[counter] = 0
        self["lives"] += 1
        self["started_ns"] = self["heartbeat_ns"] = now_ns()
        self["state"] = State.STARTING
        self["pid"] = os.getpid()

    def clear(self) -> None:
        """Forget the process: as if it had never begun."""
        for counter in COUNTERS:
            self._words[counter] = 0
        self._words["latency"][:] = 0

    def beat(self, state: State | None = None) -> None:
        """Give a sign of life, perhaps from a new state."""
        if state is not None:
            self["state"] = state
        self["heartbeat_ns"] = now_ns()

    def values(self) -> dict[str, Any]:
        """All counters as plain values, the state by name, p50 and p99 of the latency in ms."""
        result: dict[str, Any] = {counter: self[counter] for counter in COUNTERS}
        result["state"] = self.state.name.lower()
        result["latency_ms_p50"] = self.latency.quantile_ms(0.5)
        result["latency_ms_p99"] = self.latency.quantile_ms(0.99)
        return result


class Board:
    """All rows of one stream.

    Attributes:
        index_memory: `INDEX_MEMORY`, of the indices that images were handed out under; written by the consumer.
    """

    def __init__(self, path: Path, file: int) -> None:
        """Look at an open board; use `create` or `open`."""
        self._path = path
        self._file = file
        self._map = mmap.mmap(file, 0)
        names = json.loads(self._map[:_HEAD_BYTES].rstrip(b"\0"))
        self._rows = np.frombuffer(self._map, _ROW, len(names), _HEAD_BYTES)
        self.index_memory = np.frombuffer(self._map, INDEX_MEMORY, 1, _HEAD_BYTES + self._rows.nbytes)[0]
        self._names: list[str] = names

    @classmethod
    def create(cls, stream_name: str, processes: Sequence[str]) -> Board:
        """Make the board of a stream and hold its name.

        Raises:
            RingError: another supervisor holds the name.
        """
        space = RingSpace.of(stream_name)
        with space.locked():
            require_free(stream_name)
            path = space.shared_file("board")
            # A new file, put in place when it is whole: orphans of a killed supervisor may still look at the old one.
            new = space.shared_file("board.new")
            file = open_new(new)
            fcntl.flock(file, fcntl.LOCK_EX)
            os.ftruncate(file, _HEAD_BYTES + _ROW.itemsize * len(processes) + INDEX_MEMORY.itemsize)
            os.pwrite(file, json.dumps(list(processes)).encode(), 0)
            new.replace(path)
        return cls(path, file)

    @classmethod
    def open(cls, stream_name: str) -> Board:
        """Look at the board of a running stream.

        Raises:
            RingError: there is none.
        """
        path = RingSpace.of(stream_name).shared_file("board")
        try:
            file = open_own(path, os.O_RDWR)
        except FileNotFoundError:
            raise RingError(f"no stream named {stream_name!r} is running: it has no board at {path}") from None
        return cls(path, file)

    @property
    def names(self) -> list[str]:
        """The processes, in the order of their rows."""
        return list(self._names)

    def row(self, process: str) -> Row:
        """The row of a process.

        Raises:
            RingError: the stream has no such process.
        """
        if process not in self._names:
            raise RingError(f"the board has no row {process!r}; it has {', '.join(self._names)}")
        return Row(process, self._rows[self._names.index(process)])

    def remove(self) -> None:
        """Delete the file; only its creator does, when all others have ended."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the name. The memory stays mapped while rows of it are in use."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        self.close()


def require_free(stream_name: str) -> None:
    """Check that no stream of this name is running.

    Raises:
        RingError: a supervisor holds the name.
    """
    if is_held(RingSpace.of(stream_name).shared_file("board")):
        raise RingError(
            f"a stream named {stream_name!r} is running already. Stop it, or give this one a source.name and ports of "
            "its own"
        )


def private_kb() -> int:
    """Private memory of this process in KiB (RssAnon); 0 where the system does not say."""
    try:
        with open("/proc/self/status") as status:
            return next((int(line.split()[1]) for line in status if line.startswith("RssAnon")), 0)
    except OSError:
        return 0
