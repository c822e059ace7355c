"""What is expected of the next frame's edges, and how far any edges are from that, in units of the usual scatter."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

REACH = 0.45
"""Share of the frame period around an expected start in which a frame's edges are looked for."""
NOTHING = 12.5
"""Cost of leaving a frame without edges: two expectations broken, and a little."""
_ABSENT = 4.0  # cost of an edge that was not seen
_REMEMBERED = 9  # exposures and intervals that the expectations are made of
_LEAST_INTERVALS = 3
_STEADY = 5  # equal exposures in a row say that the exposure is fixed
_DOUBTED = 3  # lengths that are forgotten when a fixed exposure seems to have changed
_FLOOR_US = 2.0  # no expectation is finer: stamps and edges are counted in microseconds
_CAP = 6.0  # no single expectation can refuse an edge
_FOLLOW = 0.2
_FORGET = 0.9
_LONGEST_PAUSE = 3  # frame periods over which the rhythm still says where edges are to be looked for


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
class Choice:
    """Edges that a frame may have: cost, edges (None = not seen), and the start that follows from them.

    Without any edge `begin_us` is infinite.
    """

    cost: float
    start_us: int | None
    end_us: int | None
    begin_us: float

    @property
    def newest_us(self) -> float:
        """The later of its edges."""
        return max((edge for edge in (self.start_us, self.end_us) if edge is not None), default=-math.inf)


Placed = tuple[int, float]
"""Index and start of a frame whose place is known."""


class Rhythm:
    """Follows one camera: clock offset, intervals, lengths of exposures."""

    def __init__(self, offset_us: float, scatter_us: float, period_us: float, *, given_us: float) -> None:
        """Begin with what the search for the offset found.

        Args:
            offset_us: edge time minus frame stamp.
            scatter_us: of that.
            period_us: time between frames.
            given_us: > 0: only starts are signalled, and exposures are so long.
        """
        self.period_us = period_us
        self.previous: Placed | None = None
        self._offset_us = offset_us
        self._scatter_us = max(_FLOOR_US, 1.5 * scatter_us)
        self._given_us = given_us
        self._intervals: deque[float] = deque(maxlen=_REMEMBERED)
        self._excess: deque[float] = deque(maxlen=_REMEMBERED)  # length by the edges minus what the frame says

    def expect_width(self, excess_us: float) -> None:
        """Remember a length of exposure, less what its frame said of it."""
        self._excess.append(excess_us)

    def span_us(self, stamp: Stamp, previous: Placed | None) -> tuple[float, float]:
        """Between which times a frame's exposure may begin: around its stamp, and where the rhythm puts it."""
        centres = [stamp.time_us + self._offset_us]
        if previous is not None and len(self._intervals) >= _LEAST_INTERVALS:
            steady_us = previous[1] + (stamp.index - previous[0]) * _middle(self._intervals)[0]
            if abs(steady_us - centres[0]) < _LONGEST_PAUSE * self.period_us:
                centres.append(steady_us)
        return min(centres) - REACH * self.period_us, max(centres) + REACH * self.period_us

    def width_us(self, stamp: Stamp) -> float:
        """The expected length of an exposure."""
        if self._given_us:
            return self._given_us
        return max(0.0, (stamp.exposure_us or 0.0) + _middle(self._excess)[0])

    def choices(
        self, stamp: Stamp, openings: Sequence[int], closings: Sequence[int], previous: Placed | None
    ) -> list[Choice]:
        """List what edges a frame may have, the likeliest first."""
        found = [Choice(NOTHING, None, None, math.inf)]
        found += self._with_start(stamp, openings, closings, previous)
        width_us = self.width_us(stamp)
        for end_us in closings:
            begin_us = end_us - width_us
            found.append(Choice(self._cost_of_start(stamp, begin_us, previous) + _ABSENT, None, end_us, begin_us))
        return sorted(found, key=lambda choice: choice.cost)

    def learn(self, stamp: Stamp, start_us: int | None, end_us: int | None) -> None:
        """Take the edges that a frame was given into account."""
        if start_us is None:
            return
        error_us = start_us - stamp.time_us - self._offset_us
        error_us = max(-_CAP * self._scatter_us, min(_CAP * self._scatter_us, error_us))
        self._offset_us += _FOLLOW * error_us
        self._scatter_us = max(_FLOOR_US, _FORGET * self._scatter_us + (1 - _FORGET) * 1.5 * abs(error_us))
        if end_us is not None:
            self._excess.append(end_us - start_us - (stamp.exposure_us or 0.0))
        elif self._is_steady():
            for _ in range(_DOUBTED):  # if the exposure was changed, its new length is believed the third time
                self._excess.popleft()
        if self.previous is not None and stamp.index > self.previous[0]:
            self._intervals.append((start_us - self.previous[1]) / (stamp.index - self.previous[0]))
            if len(self._intervals) >= _LEAST_INTERVALS:
                self.period_us = _middle(self._intervals)[0]
        self.previous = (stamp.index, start_us)

    def _with_start(
        self, stamp: Stamp, openings: Sequence[int], closings: Sequence[int], previous: Placed | None
    ) -> Iterator[Choice]:
        width_us = self.width_us(stamp)
        for start_us in openings:
            begun = self._cost_of_start(stamp, start_us, previous)
            yield Choice(begun + (0.0 if self._given_us else _ABSENT), start_us, None, start_us)
            for end_us in closings:
                if end_us > start_us:
                    yield Choice(begun + self._cost_of_width(end_us - start_us, width_us), start_us, end_us, start_us)

    def _cost_of_start(self, stamp: Stamp, start_us: float, previous: Placed | None) -> float:
        cost = _capped(abs(start_us - stamp.time_us - self._offset_us) / self._scatter_us, _CAP)
        if previous is None or len(self._intervals) < _LEAST_INTERVALS:
            return cost
        interval_us, scatter_us = _middle(self._intervals)
        steps = stamp.index - previous[0]
        return cost + _capped(abs(start_us - previous[1] - steps * interval_us) / scatter_us, _CAP)

    def _cost_of_width(self, found_us: float, expected_us: float) -> float:
        _, scatter_us = _middle(self._excess)
        if len(self._excess) < _LEAST_INTERVALS:
            scatter_us = max(scatter_us, 0.1 * expected_us)
        # A closing edge of any length is better than none, but where all lengths were equal it is another one's.
        return _capped(abs(found_us - expected_us) / scatter_us, _CAP if self._is_steady() else 0.9 * _ABSENT)

    def _is_steady(self) -> bool:
        return len(self._excess) >= _STEADY and max(self._excess) - min(self._excess) <= 2 * _FLOOR_US


def _capped(cost: float, cap: float) -> float:
    """Let a cost grow ever more slowly towards its cap, so that nearer stays better."""
    return cap * cost / (cap + cost)


def _middle(values: deque[float]) -> tuple[float, float]:
    """Median, and a robust scatter around it."""
    if not values:
        return 0.0, _FLOOR_US
    # Asked for at each packet; of so few, numpy's takes twenty times as long.
    middle = statistics.median(values)
    scatter = 1.4826 * statistics.median([abs(value - middle) for value in values])
    return middle, max(_FLOOR_US, 1.5 * scatter)
