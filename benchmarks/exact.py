"""The exact double integral, event by event, vectorised in numpy: what the fast one is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nire.integral.double_integral import DARK_LEVEL
from nire.types import Calibration, EventBatch, Frame


def exact_instant(frame: Frame, events: EventBatch, t_us: float, calibration: Calibration) -> NDArray[np.float64]:
    """Re-expose one gray frame at an instant: float64 [H, W], linear light in levels.

    Args:
        frame: linear, global shutter, with an exposure.
        events: of a span that holds the exposure and `t_us`.
        t_us: device time.
        calibration: thresholds; its offset must be 0.
    """
    height, width = frame.pixels.shape[:2]
    cell = events.y.astype(np.int64) * width + events.x
    order = np.argsort(cell, kind="stable")
    cell, time_us = cell[order], events.t_us[order].astype(np.float64)
    step = np.where(events.p[order] > 0, calibration.threshold_positive, -calibration.threshold_negative)
    total = np.cumsum(step)
    first = np.searchsorted(cell, cell, side="left")
    level = total - np.where(first > 0, total[first - 1], 0.0)
    gain = np.exp(level)
    before = np.exp(level - step)
    start, end = float(frame.exposure_start_us), float(frame.exposure_end_us)
    # The integral over the exposure: the initial gain of 1, and each event's jump for the rest of the exposure.
    seen_us = end - np.clip(time_us, start, end)
    area = (end - start) + np.bincount(cell, (gain - before) * seen_us, minlength=height * width)
    at_t = np.bincount(cell, np.where(time_us <= t_us, gain - before, 0.0), minlength=height * width) + 1.0
    mean = (area / (end - start)).reshape(height, width)
    return np.maximum((frame.pixels[..., 0] + DARK_LEVEL) / mean * at_t.reshape(height, width) - DARK_LEVEL, 0.0)
