"""The slow, obvious reference: one pixel at a time, one event at a time, no bins."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from nire.integral.double_integral import DARK_LEVEL
from nire.types import Calibration, EventBatch, Frame


class ExactPixel:
    """Gain of one pixel over time: a step function that jumps by exp(+c) or exp(-c) at each of its events."""

    def __init__(self, events: EventBatch, x: int, y: int, calibration: Calibration) -> None:
        """Collect the pixel's events, in frame time."""
        mine = (events.x == x) & (events.y == y)
        self.times = [float(t) - calibration.time_offset_us for t in events.t_us[mine]]
        steps = [calibration.threshold_positive if p else -calibration.threshold_negative for p in events.p[mine]]
        self.levels = [0.0]
        for step in steps:
            self.levels.append(self.levels[-1] + step)

    def gain(self, t_us: float) -> float:
        """Gain at an instant, the events at that very time included."""
        return float(np.exp(self.levels[sum(t <= t_us for t in self.times)]))

    def mean_gain(self, t_a_us: float, t_b_us: float) -> float:
        """Mean over [t_a, t_b], piece by piece."""
        if t_a_us == t_b_us:
            return self.gain(t_a_us)
        cuts = [t_a_us, *[t for t in self.times if t_a_us < t < t_b_us], t_b_us]
        area = sum((b - a) * self.gain((a + b) / 2) for a, b in itertools.pairwise(cuts))
        return area / (t_b_us - t_a_us)


def exact_exposure(
    frame: Frame, events: EventBatch, t_a_us: NDArray[np.float64], t_b_us: NDArray[np.float64], calibration: Calibration
) -> NDArray[np.float64]:
    """Re-expose one gray frame over [t_a, t_b] per row: float64 [H, W], by Eq. 5 with V = K exp(c E)."""
    height, width = frame.pixels.shape[:2]
    own = frame.shutter
    image = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            pixel = ExactPixel(events, x, y, calibration)
            constant = (float(frame.pixels[y, x, 0]) + DARK_LEVEL) / pixel.mean_gain(own.t_a_us[y], own.t_b_us[y])
            image[y, x] = constant * pixel.mean_gain(t_a_us[y], t_b_us[y]) - DARK_LEVEL
    return np.maximum(image, 0.0)
