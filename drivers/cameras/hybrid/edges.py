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
from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from drivers.cameras.hybrid.first_pulse import Lock, Prior, find_lock, pulses_of
from drivers.cameras.hybrid.rhythm import REACH, Choice, Placed, Rhythm, Stamp

LOCK_FRAMES = 8
"""Frames that are looked at together to find which pulse belongs to which frame."""
_GOOD = 4.0  # edges at this cost are taken at once, without waiting for better ones
_CLEAR = 5.0  # where another pulse costs less than so much more, the next frame is asked which of both it wants
_MOST_EDGES = 20_000  # of one kind that wait for frames; the older half goes
_MOST_FRAMES = 4 * LOCK_FRAMES  # that wait for edges before the oldest is given up
_SEARCHED = 64  # frame periods before the first frame in which its pulse is looked for


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
        self.restart()

    @property
    def locked(self) -> bool:
        """Tell whether it is known which pulse belongs to which frame."""
        return self._rhythm is not None

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
        self._rhythm: Rhythm | None = None
        self._taken_us = -math.inf  # the newest edge that was given to a frame
        self._unmatched = 0
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
            assert self._rhythm is not None  # locked
            match = self._decide(self._rhythm, known_us, at_end=at_end)
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
        self._rhythm = Rhythm(lock.offset_us, lock.spread_us, period_us, given_us=self._given_us)
        said_us = [stamp.exposure_us for stamp in stamps if stamp.exposure_us is not None]
        self._rhythm.expect_width(width_us - (float(np.median(said_us)) if said_us else 0.0))
        self._unmatched = 0

    # One frame

    def _decide(self, rhythm: Rhythm, known_us: float, *, at_end: bool) -> Match | None:
        stamp = self._pending[0]
        choices = self._choices(rhythm, stamp, rhythm.previous, self._taken_us)
        best = choices[0]
        complete = best.start_us is not None and (best.end_us is not None or self._given_us > 0)
        rivals = [best, *self._rivals(rhythm, choices)]
        if not (complete and best.cost < _GOOD and len(rivals) == 1):
            if not at_end and known_us < self._due_us(rhythm, stamp, rhythm.previous):
                return None
            if len(rivals) > 1:
                chosen = self._settled(rhythm, stamp, rivals, known_us, at_end=at_end)
                if chosen is None:
                    return None
                best = chosen
        return self._with(rhythm, stamp, best) if math.isfinite(best.begin_us) else self._without(stamp)

    def _choices(self, rhythm: Rhythm, stamp: Stamp, previous: Placed | None, taken_us: float) -> list[Choice]:
        """What edges a frame may have: those near its expected time that came after the ones already taken."""
        first_us, last_us = rhythm.span_us(stamp, previous)
        width_us, after_us = rhythm.width_us(stamp), math.nextafter(taken_us, math.inf)
        openings = _between(self._openings, max(first_us, after_us), last_us)
        if self._given_us:
            return rhythm.choices(stamp, openings, [], previous)
        closings = _between(self._closings, max(first_us + width_us / 2, after_us), last_us + width_us)
        return rhythm.choices(stamp, openings, closings, previous)

    def _rivals(self, rhythm: Rhythm, choices: list[Choice]) -> list[Choice]:
        """Edges of another pulse that are nearly as likely as the likeliest."""
        best = choices[0]
        apart_us = REACH * rhythm.period_us
        near = (choice for choice in choices[1:] if choice.cost < best.cost + _CLEAR)
        return [choice for choice in near if apart_us < abs(choice.begin_us - best.begin_us) < math.inf]

    def _settled(
        self, rhythm: Rhythm, stamp: Stamp, rivals: list[Choice], known_us: float, *, at_end: bool
    ) -> Choice | None:
        """Let the next frame tell which pulse it leaves to this one; None where that has to be waited for.

        A stamp that came late and a frame that was lost look alike by themselves.
        """
        if len(self._pending) < 2:
            late_us = self._due_us(rhythm, stamp, rhythm.previous) + rhythm.period_us
            return rivals[0] if at_end or known_us >= late_us else None
        following = self._pending[1]
        costs = []
        for rival in rivals:
            previous: Placed = (stamp.index, rival.begin_us)
            if not at_end and known_us < self._due_us(rhythm, following, previous):
                return None
            costs.append(rival.cost + self._choices(rhythm, following, previous, rival.newest_us)[0].cost)
        return rivals[costs.index(min(costs))]

    @staticmethod
    def _due_us(rhythm: Rhythm, stamp: Stamp, previous: Placed | None) -> float:
        """When all edges that a frame may have were seen."""
        return rhythm.span_us(stamp, previous)[1] + rhythm.width_us(stamp)

    def _with(self, rhythm: Rhythm, stamp: Stamp, choice: Choice) -> Match:
        start_us, end_us = choice.start_us, choice.end_us
        seen = "both" if start_us is not None and end_us is not None else "start" if start_us is not None else "end"
        if self._given_us:
            seen = "both"
        self.counters.exposures_exact += seen == "both"
        self.counters.exposures_estimated += seen != "both"
        self._unmatched = 0
        begin_us = round(choice.begin_us)
        finish_us = end_us if end_us is not None else round(begin_us + rhythm.width_us(stamp))
        rhythm.learn(stamp, start_us, finish_us if self._given_us else end_us)
        self._taken_us = choice.newest_us
        used = {edge for edge in (start_us, end_us) if edge is not None}
        for edges in (self._openings, self._closings):
            self._drop(edges, bisect.bisect_right(edges, max(begin_us, self._taken_us)), used)
        return Match(stamp, begin_us, max(begin_us, finish_us), seen)

    def _without(self, stamp: Stamp) -> Match:
        self.counters.frames_without_edges += 1
        self._unmatched += 1
        if self._unmatched >= LOCK_FRAMES:
            # The frames' clock was set, or the camera began again: look for the offset once more.
            self._rhythm = None
        return Match(stamp, None, None, "none")

    def _drop(self, edges: list[int], count: int, used: Set[int] = frozenset()) -> None:
        """Drop the oldest edges of a kind, and count those that no frame has had."""
        self.counters.edges_ignored += sum(edge not in used for edge in edges[:count])
        del edges[:count]


def _between(edges: list[int], first_us: float, last_us: float) -> list[int]:
    return edges[bisect.bisect_left(edges, first_us) : bisect.bisect_right(edges, last_us)]


def _typical_interval_us(stamps: list[Stamp]) -> float:
    """Time between frames whose indices follow each other; half a second where there is only one frame."""
    pairs = itertools.pairwise(stamps)
    intervals = [(b.time_us - a.time_us) / max(1, b.index - a.index) for a, b in pairs]
    return max(1.0, float(np.median(intervals))) if intervals else 500_000.0
