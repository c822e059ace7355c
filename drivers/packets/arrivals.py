"""A device's clock against the host's, from arrivals alone: the line under all stamps, for no packet is early."""

from __future__ import annotations

import math
from bisect import bisect_right
from statistics import median

_BUCKET_US = 250_000.0  # of which the earliest arrival stands for all
_BUCKETS = 240  # a minute: short enough that a warming crystal stays on a line
_DRIFT_MOST = 500e-6  # no crystal is so far off
_DRIFT_AFTER_US = 4e6  # below, the delays of two arrivals differ by more than a drift makes
_SETTLED = 4  # buckets from which on their spread tells how far the line may be off
_SPREADS = 3.0  # how many of them
_FIRST_DOUBT_US = 20_000.0  # that a few arrivals may all be late by, on a busy machine
_FIRST = 8
_AGREE = 12  # buckets that are late by the same: the device's clock stood still, no packet waits for so long
_JUMP_US = 2000.0


class ArrivalLine:
    """Host time of device time at the least delay that arrivals had, and how far it may be off.

    Arrivals are late by what cables, drivers and a busy machine add, and never early. So the clocks are told from the
    earliest ones: the line under all stamps of the last minute that is nearest to them, an edge of their lower convex
    hull (Moon, Skelly and Towsley, 1999). The least delay itself cannot be seen from here: it is not in `doubt_us`.
    """

    def __init__(self) -> None:
        """Begin before the first arrival."""
        self._origin = 0.0, 0.0  # device time, and host minus device time: all else is relative to them
        self._points: list[tuple[float, float]] = []  # earliest arrival of each bucket: device time, lateness
        self._bucket_end_us = 0.0
        self._height_us = self._drift = self._spread_us = 0.0
        self._excess_us = 0.0  # above the line, over all arrivals, on average
        self._arrivals = 0
        self._told_by = 0  # the newest buckets that tell whether arrivals still come as the line says

    @property
    def drift(self) -> float:
        """Host time that passes in a unit of device time, minus 1; 0 in the first seconds."""
        return self._drift

    @property
    def drift_doubt(self) -> float:
        """How far `drift` may be off."""
        span_us = self._points[-1][0] - self._points[0][0] if self._points else 0.0
        return min(_DRIFT_MOST, 2 * self._spread_us / span_us) if span_us >= _DRIFT_AFTER_US else _DRIFT_MOST

    @property
    def doubt_us(self) -> float:
        """How far the line may lie from the least delay at the newest arrivals, us; infinite before the first."""
        if not self._points:
            return math.inf
        if self._arrivals < _FIRST:
            return _FIRST_DOUBT_US
        newest = self._points[-max(1, self._told_by) :]
        late_us = min(max(0.0, self._above(point)) for point in newest)
        late_us += self.drift_doubt * _BUCKET_US
        return 1.0 + late_us + (_SPREADS * self._spread_us if len(self._points) >= _SETTLED else self._excess_us)

    def add(self, device_us: float, host_us: float) -> ArrivalLine:
        """Take an arrival.

        Args:
            device_us: that the device's clock had reached, of one life of that clock.
            host_us: when the host knew it.

        Returns:
            The line that holds from here on: another one where the arrival shows that the device's clock jumped.
        """
        if not self._points:
            self._origin = device_us, host_us - device_us
        point = device_us - self._origin[0], host_us - device_us - self._origin[1]
        under_us = -self._above(point) if self._points else 0.0
        if under_us > max(_JUMP_US, 2 * self.doubt_us):
            return _line_of([(device_us, host_us)])
        self._arrivals += 1
        self._excess_us += (max(0.0, -under_us) - self._excess_us) / min(self._arrivals, 1000)
        if not self._points or point[0] >= self._bucket_end_us:
            self._points = [*self._points[1 - _BUCKETS :], point]
            self._bucket_end_us = point[0] + _BUCKET_US
            self._told_by = min(2, self._told_by + 1)
            self._fit()
            return self._moved_on()
        if self._above(point) < self._above(self._points[-1]):
            self._points[-1] = point
            if under_us > 0:
                self._fit()
        return self

    def doubt(self) -> None:
        """Believe the line only as far as the next arrivals do: the device's clock may have stood still."""
        self._bucket_end_us = -math.inf
        self._told_by = 0

    def host_us(self, device_us: float) -> float:
        """Host time of a device time, us."""
        x_us = device_us - self._origin[0]
        return device_us + self._origin[1] + self._height_us + self._drift * x_us

    def device_us(self, host_us: float) -> float:
        """Device time of a host time, us: the inverse of `host_us`."""
        at_us = self._origin[0]
        return at_us + (host_us - self.host_us(at_us)) / (1 + self._drift)

    def _above(self, point: tuple[float, float]) -> float:
        return point[1] - self._height_us - self._drift * point[0]

    def _fit(self) -> None:
        span_us = self._points[-1][0] - self._points[0][0]
        drift = 0.0
        if span_us >= _DRIFT_AFTER_US:
            hull = _lower_hull(self._points)
            mean_us = sum(x for x, _ in self._points) / len(self._points)
            right = min(max(1, bisect_right(hull, mean_us, key=lambda point: point[0])), len(hull) - 1)
            (x0, y0), (x1, y1) = hull[right - 1], hull[right]
            drift = min(max((y1 - y0) / (x1 - x0), -_DRIFT_MOST), _DRIFT_MOST)
        self._drift = drift
        heights_us = [y - drift * x for x, y in self._points]
        self._height_us = min(heights_us)
        self._spread_us = median(heights_us) - self._height_us

    def _moved_on(self) -> ArrivalLine:
        """Begin again with the newest buckets, where they are late by the same: the device's clock stood still."""
        late = [self._above(point) for point in self._points[-_AGREE - 1 : -1]]
        least_us = max(_JUMP_US, 4 * self._spread_us)
        if len(self._points) <= 2 * _AGREE or min(late) < least_us:
            return self
        if max(late) - min(late) > least_us:
            return self  # rather a machine that cannot keep up
        x0_us, y0_us = self._origin
        return _line_of([(x + x0_us, x + x0_us + y + y0_us) for x, y in self._points[-_AGREE - 1 :]])


def _line_of(arrivals: list[tuple[float, float]]) -> ArrivalLine:
    line = ArrivalLine()
    for device_us, host_us in arrivals:
        line = line.add(device_us, host_us)
    return line


def _lower_hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Lower convex hull of points in the order of x."""
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while len(hull) >= 2 and (hull[-1][0] - hull[-2][0]) * (y - hull[-2][1]) <= (hull[-1][1] - hull[-2][1]) * (
            x - hull[-2][0]
        ):
            hull.pop()
        hull.append((x, y))
    return hull
