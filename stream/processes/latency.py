"""How long things took: a histogram in logarithmic buckets, 9 % wide, that any process can read while it grows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_PER_OCTAVE = 8
_SHORTEST_NS = 1_000
BUCKETS = 27 * _PER_OCTAVE
"""From 1 us to 134 s; what is shorter or longer falls into the first or last."""


class LatencyHistogram:
    """Counts of durations.

    Attributes:
        counts: int64 [BUCKETS], owned by the caller: it may lie in shared memory.
    """

    def __init__(self, counts: NDArray[np.int64] | None = None) -> None:
        """Count into `counts`, or into memory of its own."""
        self.counts = np.zeros(BUCKETS, np.int64) if counts is None else counts

    def add(self, duration_ns: int) -> None:
        """Count one duration."""
        octaves = math.log2(max(duration_ns, _SHORTEST_NS) / _SHORTEST_NS)
        self.counts[min(BUCKETS - 1, int(octaves * _PER_OCTAVE))] += 1

    def quantile_ms(self, q: float) -> float | None:
        """The duration (ms, within 5 %) that a share `q` of all stays below; None when nothing was counted."""
        total = int(self.counts.sum())
        if total == 0:
            return None
        bucket = int(np.searchsorted(np.cumsum(self.counts), q * total))
        return float(_SHORTEST_NS * 2.0 ** ((min(bucket, BUCKETS - 1) + 0.5) / _PER_OCTAVE) / 1e6)


class RecentLatency:
    """A histogram of the last one to two periods; what is older is forgotten."""

    def __init__(self, period_ns: int = 2_000_000_000) -> None:
        """Forget after one to two `period_ns`."""
        self._period_ns = period_ns
        self._turned_ns = 0
        self._older = LatencyHistogram()
        self._newer = LatencyHistogram()

    def add(self, duration_ns: int, now_ns: int) -> None:
        """Count a duration that ended at `now_ns`."""
        self._turn(now_ns)
        self._newer.add(duration_ns)

    def quantile_ms(self, q: float, now_ns: int) -> float | None:
        """As `LatencyHistogram.quantile_ms`, of recent durations."""
        self._turn(now_ns)
        return LatencyHistogram(self._older.counts + self._newer.counts).quantile_ms(q)

    def _turn(self, now_ns: int) -> None:
        age_ns = now_ns - self._turned_ns
        if age_ns < self._period_ns:
            return
        self._older = self._newer if age_ns < 2 * self._period_ns else LatencyHistogram()
        self._newer = LatencyHistogram()
        self._turned_ns = now_ns
