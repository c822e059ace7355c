"""The slow, obvious reference: one pixel at a time, one event at a time, no bins."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from nire.integral.double_integral import DARK_LEVEL
from nire.types import Calibration, EventBatch, Frame


class ExactPixel:
    """Gain of one pixel over time: it has changed by exp(+c) or exp(-c) at each event, and goes there on a ramp."""

    def __init__(self, events: EventBatch, x: int, y: int, calibration: Calibration, reach_us: float = 0.0) -> None:
        """Collect the pixel's events, in frame time.

        Args:
            events: of all pixels.
            x, y: the pixel.
            calibration: thresholds and offset.
            reach_us: longest ramp; 0 = none, the gain is a staircase.
        """
        mine = (events.x == x) & (events.y == y)
        self.times = [float(t) - calibration.time_offset_us for t in events.t_us[mine]]
        steps = [calibration.threshold_positive if p else -calibration.threshold_negative for p in events.p[mine]]
        self.levels = [0.0]
        for step in steps:
            self.levels.append(self.levels[-1] + step)
        self.begins = [
            max(last, now - reach_us, now - (coming - now) // 2)
            for last, now, coming in zip([-np.inf, *self.times], self.times, [*self.times[1:], np.inf], strict=False)
        ]

    def gain(self, t_us: float) -> float:
        """Gain at an instant, the events at that very time included."""
        known = sum(t <= t_us for t in self.times)
        now = float(np.exp(self.levels[known]))
        if known == len(self.times) or t_us <= self.begins[known]:
            return now
        share = (t_us - self.begins[known]) / (self.times[known] - self.begins[known])
        return now + share * (float(np.exp(self.levels[known + 1])) - now)

    def mean_gain(self, t_a_us: float, t_b_us: float) -> float:
        """Mean over [t_a, t_b], piece by piece: each is a line."""
        if t_a_us == t_b_us:
            return self.gain(t_a_us)
        cuts = sorted({t_a_us, t_b_us, *(t for t in (*self.times, *self.begins) if t_a_us < t < t_b_us)})
        area = sum((b - a) * self.gain((a + b) / 2) for a, b in itertools.pairwise(cuts))
        return area / (t_b_us - t_a_us)


def exact_exposure(
    frame: Frame,
    events: EventBatch,
    t_a_us: NDArray[np.float64],
    t_b_us: NDArray[np.float64],
    calibration: Calibration,
    *,
    reach_us: float = 0.0,
) -> NDArray[np.float64]:
    """Re-expose one gray frame over [t_a, t_b] per row: float64 [H, W], by Eq. 5 with V = K exp(c E)."""
    height, width = frame.pixels.shape[:2]
    own = frame.shutter
    image = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            pixel = ExactPixel(events, x, y, calibration, reach_us)
            constant = (float(frame.pixels[y, x, 0]) + DARK_LEVEL) / pixel.mean_gain(own.t_a_us[y], own.t_b_us[y])
            image[y, x] = constant * pixel.mean_gain(t_a_us[y], t_b_us[y]) - DARK_LEVEL
    return np.maximum(image, 0.0)
