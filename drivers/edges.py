"""Trigger edges to exposures: which edges belong to which frame, where some are lost and some are spurious.

An edge says exactly when, a frame's own stamp says about when, and on another clock. The offset between the clocks
is found once (`drivers.edge_lock`) and followed. Then each frame takes the edges that fit three expectations best:
its stamp, the rhythm of the frames before it, and the length of their exposures.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from drivers.edge_lock import Lock, Prior, find_lock, pulses_of

LOCK_FRAMES = 8
"""Frames that are looked at together to find which pulse belongs to which frame."""
_DOUBTED = 3  # lengths that are forgotten when a fixed exposure seems to have changed
_STEADY = 5  # equal exposures in a row say that the exposure is fixed
_REMEMBERED = 9  # exposures and intervals that the expectations are made of
_FLOOR_US = 2.0  # no expectation is finer: stamps and edges are counted in microseconds
_CAP = 6.0  # no single expectation can refuse an edge
_ABSENT = 4.0  # cost of an edge that was not seen
_NOTHING = 12.5  # cost of leaving a frame without edges: two expectations broken, and a little
_GOOD = 4.0  # a pair of edges at this cost is taken at once, without waiting for better ones
_REACH = 0.45  # share of the frame period around its expected start in which a frame's edges are looked for
_FOLLOW = 0.2
_FORGET = 0.9
_MOST_EDGES = 20_000  # of one kind that wait for frames; the older half goes
_MOST_FRAMES = 4 * LOCK_FRAMES  # that wait for edges before the oldest is given up
_SEARCHED = 64  # frame periods before the first frame in which its pulse is looked for


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a frame says of its own time.

    Attributes:
        index: count of the camera.
        time_us: any moment of the frame by any steady clock; the same moment in each frame.
        exposure_us: length of its exposure, where the camera says it.
    """

    index: int
    time_us: float
    exposure_us: float | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """The exposure of a frame by the event camera's clock, microseconds.

    Attributes:
        stamp: of the frame.
        start_us, end_us: None where no edge was found for it.
        seen: "both", "start" or "end": the edges that were found; the other end is estimated. "none": neither.
    """

    stamp: Stamp
    start_us: int | None
    end_us: int | None
    seen: str


@dataclass(slots=True)
class EdgeCounters:
    """What became of edges and frames.

    Attributes:
        edges: seen on the line.
        edges_ignored: that belong to no frame: spurious, or of frames that never came.
        exposures_exact: frames with both edges.
        exposures_estimated: frames with one edge; the other is taken from the usual length.
        frames_without_edges: frames whose edges were both lost; they are left out.
    """

    edges: int = 0
    edges_ignored: int = 0
    exposures_exact: int = 0
    exposures_estimated: int = 0
    frames_without_edges: int = 0


class EdgeMatcher:
    """Matches edges to frames while both arrive; decides in the order of the frames, once."""

    def __init__(self, *, prior: Prior | None = None, exposure_us: float = 0.0) -> None:
        """Begin without knowledge.

        Args:
            prior: of the offset between frame stamps and edges; it may be replaced until `locked`.
            exposure_us: > 0: the line signals only the start, and exposures are so long.
        """
        self.prior = prior or Prior()
        self.counters = EdgeCounters()
        self._given_us = exposure_us
        self._openings: list[int] = []
        self._closings: list[int] = []
        self._pending: deque[Stamp] = deque()
        self._used: set[int] = set()
        self.restart()

    @property
    def locked(self) -> bool:
        """Tell whether it is known which pulse belongs to which frame."""
        return self._offset_us is not None

    @property
    def pending(self) -> int:
        """How many frames wait for a decision."""
        return len(self._pending)

    @property
    def waits_for_lock(self) -> bool:
        """Tell whether edges are there that nobody can assign yet."""
        return not self.locked and bool(self._openings)

    def restart(self) -> None:
        """Forget the clocks: edges are gone, frames that wait are matched anew."""
        self._drop(self._openings, len(self._openings))
        self._drop(self._closings, len(self._closings))
        self._offset_us: float | None = None
        self._scatter_us = 0.0
        self._taken_us = -math.inf  # the newest edge that was given to a frame
        self._previous: tuple[int, int] | None = None  # index and start of the newest frame that has one
        self._intervals: deque[float] = deque(maxlen=_REMEMBERED)
        self._excess: deque[float] = deque(maxlen=_REMEMBERED)  # length by the edges minus what the frame says
        self._unmatched = 0
        self._period_us = math.inf
        self._failed = False

    def add_edge(self, t_us: int, *, opening: bool) -> None:
        """Take an edge; edges of one kind come in the order of time.

        Args:
            t_us: by the event camera's clock.
            opening: it begins an exposure; else it ends one.
        """
        self.counters.edges += 1
        edges = self._openings if opening else self._closings
        edges.append(t_us)
        if len(edges) > _MOST_EDGES:
            self._drop(edges, len(edges) // 2)

    def add_stamp(self, stamp: Stamp) -> None:
        """Take a frame's stamp; frames come in the order of their indices."""
        self._pending.append(stamp)

    def settle(self, known_us: float, *, no_more_frames: bool = False, at_end: bool = False) -> list[Match]:
        """Decide the frames that can be decided.

        Args:
            known_us: every edge before this time has been added.
            no_more_frames: no further stamp will come.
            at_end: no further edge will come either.

        Returns:
            Decisions, in the order of the frames.
        """
        done: list[Match] = []
        while self._pending:
            if not self.locked and not self._lock(known_us, no_more_frames=no_more_frames, at_end=at_end):
                if not (at_end or self._failed or len(self._pending) > _MOST_FRAMES):
                    break
                done.append(self._without(self._pending.popleft()))
                continue
            match = self._decide(self._pending[0], known_us, at_end=at_end)
            if match is None:
                break
            self._pending.popleft()
            done.append(match)
        return done

    # The lock

    def _lock(self, known_us: float, *, no_more_frames: bool, at_end: bool) -> bool:
        """Try to find the offset; `_failed` tells that the oldest frame stands in the way."""
        self._failed = False
        stamps = list(itertools.islice(self._pending, LOCK_FRAMES))
        if len(stamps) < LOCK_FRAMES and not (no_more_frames or at_end):
            return False
        while self._openings and (at_end or known_us >= self._ready_us(stamps)):
            if self._try(stamps):
                return True
            if self.prior.offset_us is not None:
                self._failed = True
                return False
            # Nobody knows when the frames began: this edge was none of theirs.
            self._drop(self._openings, 1)
        return False

    def _try(self, stamps: list[Stamp]) -> bool:
        period_us = _typical_interval_us(stamps)
        openings = np.array(self._openings, np.int64)
        if self.prior.offset_us is not None:
            first_us = stamps[0].time_us + self.prior.offset_us - _SEARCHED * period_us
            openings = openings[np.searchsorted(openings, first_us) :]
        pulses = pulses_of(openings, np.array(self._closings, np.int64), width_us=self._given_us)
        lock = find_lock(pulses, [stamp.time_us for stamp in stamps], self.prior, period_us=period_us)
        if lock is not None:
            self._begin(lock, stamps, period_us=period_us, width_us=pulses.width_us)
        return lock is not None

    def _ready_us(self, stamps: list[Stamp]) -> float:
        """When all edges of the first frames must have been seen."""
        if self.prior.offset_us is not None:
            return stamps[-1].time_us + self.prior.offset_us
        period_us = _typical_interval_us(stamps) if len(stamps) > 1 else 0.0
        reach_us = stamps[-1].time_us - stamps[0].time_us + (2 + self.prior.first_pulse) * period_us
        return self._openings[0] + reach_us

    def _begin(self, lock: Lock, stamps: list[Stamp], *, period_us: float, width_us: float) -> None:
        self._offset_us = lock.offset_us
        self._scatter_us = max(_FLOOR_US, 1.5 * lock.spread_us)
        self._period_us = period_us
        self._unmatched = 0
        said_us = [stamp.exposure_us for stamp in stamps if stamp.exposure_us is not None]
        self._excess.append(width_us - (float(np.median(said_us)) if said_us else 0.0))

    # One frame

    def _decide(self, stamp: Stamp, known_us: float, *, at_end: bool) -> Match | None:
        assert self._offset_us is not None  # locked
        expected_us = stamp.time_us + self._offset_us
        width_us, reach_us = self._expected_width_us(stamp), _REACH * self._period_us
        openings = self._between(self._openings, expected_us - reach_us, expected_us + reach_us)
        closings = self._between(
            self._closings, expected_us - reach_us + width_us / 2, expected_us + reach_us + width_us
        )
        closings = [] if self._given_us else closings
        cost, start_us, end_us = self._best(stamp, openings, closings)
        complete = start_us is not None and (end_us is not None or self._given_us > 0)
        due_us = expected_us + reach_us + width_us
        if not at_end and known_us < due_us and not (complete and cost < _GOOD):
            return None
        if start_us is None and end_us is None:
            return self._without(stamp)
        return self._with(stamp, start_us, end_us, width_us)

    def _best(self, stamp: Stamp, openings: list[int], closings: list[int]) -> tuple[float, int | None, int | None]:
        """Choose the edges of a frame: (cost, start or None, end or None)."""
        width_us = self._expected_width_us(stamp)
        choices: list[tuple[float, int | None, int | None]] = [(_NOTHING, None, None)]
        for start_us in openings:
            begun = self._cost_of_start(stamp, start_us)
            missing = 0.0 if self._given_us else _ABSENT
            choices.append((begun + missing, start_us, None))
            choices += [
                (begun + self._cost_of_width(end_us - start_us, width_us), start_us, end_us)
                for end_us in closings
                if end_us > start_us
            ]
        choices += [(self._cost_of_start(stamp, end_us - width_us) + _ABSENT, None, end_us) for end_us in closings]
        return min(choices, key=lambda choice: choice[0])

    def _cost_of_start(self, stamp: Stamp, start_us: float) -> float:
        assert self._offset_us is not None  # locked
        cost = _capped(abs(start_us - stamp.time_us - self._offset_us) / self._scatter_us, _CAP)
        if self._previous is None or len(self._intervals) < 3:
            return cost
        steps = stamp.index - self._previous[0]
        interval_us, scatter_us = _middle(self._intervals)
        return cost + _capped(abs(start_us - self._previous[1] - steps * interval_us) / scatter_us, _CAP)

    def _cost_of_width(self, found_us: float, expected_us: float) -> float:
        _, scatter_us = _middle(self._excess)
        if len(self._excess) < 3:
            scatter_us = max(scatter_us, 0.1 * expected_us)
        # A closing edge of any length is better than none, but where all lengths were equal it is another one's.
        return _capped(abs(found_us - expected_us) / scatter_us, _CAP if self._is_steady() else 0.9 * _ABSENT)

    def _is_steady(self) -> bool:
        return len(self._excess) >= _STEADY and max(self._excess) - min(self._excess) <= 2 * _FLOOR_US

    def _expected_width_us(self, stamp: Stamp) -> float:
        if self._given_us:
            return self._given_us
        return max(0.0, (stamp.exposure_us or 0.0) + _middle(self._excess)[0])

    def _with(self, stamp: Stamp, start_us: int | None, end_us: int | None, width_us: float) -> Match:
        seen = "both" if start_us is not None and end_us is not None else "start" if start_us is not None else "end"
        if self._given_us:
            seen = "both"
        self.counters.exposures_exact += seen == "both"
        self.counters.exposures_estimated += seen != "both"
        self._used.update(edge for edge in (start_us, end_us) if edge is not None)
        self._taken_us = max(edge for edge in (start_us, end_us) if edge is not None)
        self._unmatched = 0
        if seen == "start" and self._is_steady():
            for _ in range(_DOUBTED):  # if the exposure was changed, its new length is believed the third time
                self._excess.popleft()
        if start_us is not None:
            self._learn(stamp, start_us, None if self._given_us else end_us)
        begin_us = start_us if start_us is not None else round(end_us - width_us) if end_us is not None else 0
        finish_us = end_us if end_us is not None else round(begin_us + width_us)
        self._forget_edges(begin_us)
        return Match(stamp, begin_us, max(begin_us, finish_us), seen)

    def _learn(self, stamp: Stamp, start_us: int, end_us: int | None) -> None:
        assert self._offset_us is not None  # locked
        error_us = start_us - stamp.time_us - self._offset_us
        within_us = min(abs(error_us), _CAP * self._scatter_us)
        self._offset_us += _FOLLOW * error_us
        self._scatter_us = max(_FLOOR_US, _FORGET * self._scatter_us + (1 - _FORGET) * 1.5 * within_us)
        if end_us is not None:
            self._excess.append(end_us - start_us - (stamp.exposure_us or 0.0))
        if self._previous is not None and stamp.index > self._previous[0]:
            self._intervals.append((start_us - self._previous[1]) / (stamp.index - self._previous[0]))
            self._period_us = _middle(self._intervals)[0] if len(self._intervals) >= 3 else self._period_us
        self._previous = (stamp.index, start_us)

    def _without(self, stamp: Stamp) -> Match:
        self.counters.frames_without_edges += 1
        self._unmatched += 1
        if self.locked and self._unmatched >= LOCK_FRAMES:
            # The frames' clock was set, or the camera began again: look for the offset once more.
            self._offset_us = None
            self._previous = None
            self._intervals.clear()
        return Match(stamp, None, None, "none")

    def _between(self, edges: list[int], first_us: float, last_us: float) -> list[int]:
        first_us = max(first_us, math.nextafter(self._taken_us, math.inf))
        return edges[bisect.bisect_left(edges, first_us) : bisect.bisect_right(edges, last_us)]

    def _forget_edges(self, before_us: float) -> None:
        """Drop the edges that no later frame can have."""
        for edges in (self._openings, self._closings):
            self._drop(edges, bisect.bisect_right(edges, max(before_us, self._taken_us)))
        self._used.clear()

    def _drop(self, edges: list[int], count: int) -> None:
        """Drop the oldest edges of a kind, and count those that no frame has had."""
        self.counters.edges_ignored += sum(edge not in self._used for edge in edges[:count])
        del edges[:count]


def _typical_interval_us(stamps: list[Stamp]) -> float:
    """Time between frames whose indices follow each other; half a second where there is only one frame."""
    pairs = itertools.pairwise(stamps)
    intervals = [(b.time_us - a.time_us) / max(1, b.index - a.index) for a, b in pairs]
    return max(1.0, float(np.median(intervals))) if intervals else 500_000.0


def _capped(cost: float, cap: float) -> float:
    """Let a cost grow ever more slowly towards its cap, so that nearer stays better."""
    return cap * cost / (cap + cost)


def _middle(values: deque[float]) -> tuple[float, float]:
    """Median, and a robust scatter around it."""
    middle = float(np.median(values)) if values else 0.0
    scatter = 1.4826 * float(np.median(np.abs(np.array(values) - middle))) if values else 0.0
    return middle, max(_FLOOR_US, 1.5 * scatter)
