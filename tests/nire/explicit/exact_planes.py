"""The slow, obvious reference of exposing key planes: one pixel, one instant at a time, and many of them for a mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nire.integral.double_integral import DARK_LEVEL
from nire.ramps import RAMP_SHARE
from nire.types import ContentWindow
from tests.nire.integral.exact_integral import ExactPixel


class ExactPlanes:
    """Light of one pixel between key planes."""

    def __init__(
        self, window: ContentWindow, times_us: NDArray[np.float64], planes: NDArray[np.float32], *, y: int, x: int
    ) -> None:
        """Collect what the pixel's light follows from; planes are [K + 1, H, W], levels."""
        reach_us = RAMP_SHARE * (window.t1_us - window.t0_us)
        self._events = ExactPixel(window.events, x, y, window.calibration, reach_us)
        self._times_us = times_us
        self._light = planes[:, y, x].astype(float) + DARK_LEVEL

    def light(self, t_us: float) -> float:
        """Light at an instant, levels."""
        k = int(np.clip(np.searchsorted(self._times_us, t_us, side="right") - 1, 0, len(self._times_us) - 2))
        begin, end = self._times_us[k], self._times_us[k + 1]
        before, now, after = (self._count(t) for t in (begin, t_us, end))
        share = (now - before) / (after - before) if after - before > 1e-6 else (t_us - begin) / (end - begin)
        gains = [self._events.gain(t) for t in (begin, t_us, end)]
        on, back = self._light[k] * gains[1] / gains[0], self._light[k + 1] * gains[1] / gains[2]
        return max(0.0, (1 - share) * on + share * back - DARK_LEVEL)

    def mean(self, t_a_us: float, t_b_us: float, pieces: int = 4000) -> float:
        """Light over an exposure, by that many instants."""
        times = t_a_us + (np.arange(pieces) + 0.5) / pieces * (t_b_us - t_a_us)
        return float(np.mean([self.light(t) + DARK_LEVEL for t in times])) - DARK_LEVEL

    def _count(self, t_us: float) -> float:
        events = self._events
        known = sum(t <= t_us for t in events.times)
        if known == len(events.times) or t_us <= events.begins[known]:
            return known
        return known + (t_us - events.begins[known]) / (events.times[known] - events.begins[known])
