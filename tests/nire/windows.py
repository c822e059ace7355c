"""Small windows with random frames and events, for tests of what reads windows."""

from __future__ import annotations

import numpy as np

from nire.types import Calibration, ContentWindow, EventBatch, Frame, Gap, Geometry

GEOMETRY = Geometry(12, 9)


def random_events(seed: int, count: int, t0_us: int, t1_us: int, geometry: Geometry = GEOMETRY) -> EventBatch:
    """Draw events uniformly over a span and a sensor."""
    rng = np.random.default_rng(seed)
    return EventBatch(
        np.sort(rng.integers(t0_us, t1_us, count)).astype(np.int64),
        rng.integers(0, geometry.width, count).astype(np.uint16),
        rng.integers(0, geometry.height, count).astype(np.uint16),
        rng.integers(0, 2, count).astype(np.uint8),
        t1_us,
    )


def random_frame(
    seed: int, index: int, start_us: int, end_us: int, *, row_delay_us: float = 0.0, geometry: Geometry = GEOMETRY
) -> Frame:
    """Draw a gray frame."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(20, 220, (geometry.height, geometry.width, geometry.channels)).astype(np.uint8)
    return Frame(index, pixels, start_us, end_us, row_delay_us)


def window_of(
    frames: tuple[Frame, ...],
    events: EventBatch,
    *,
    gaps: tuple[Gap, ...] = (),
    calibration: Calibration | None = None,
    geometry: Geometry = GEOMETRY,
    around_us: int = 10_000,
) -> ContentWindow:
    """Put a window together that reaches `around_us` beyond its frames."""
    t0_us, t1_us = int(frames[0].first_us) - around_us, int(frames[-1].last_us) + around_us
    chosen = (events.t_us >= t0_us) & (events.t_us < t1_us)
    return ContentWindow(
        index=0,
        t0_us=t0_us,
        t1_us=t1_us,
        frames=frames,
        events=EventBatch(events.t_us[chosen], events.x[chosen], events.y[chosen], events.p[chosen], t1_us),
        geometry=geometry,
        gaps=gaps,
        calibration=calibration or Calibration(0.2, 0.3),
    )
