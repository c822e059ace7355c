"""Event planes: events counted per second on one core, and how much faster than numpy's own counting."""

from __future__ import annotations

import numpy as np
import torch

from nire.planes import EventPlanes
from nire.types import EventBatch, Geometry

from .report import Result
from .timing import median_s

_GEOMETRY = Geometry(346, 260)
_EVENTS = 3_000_000
_SPAN_US = 300_000
_BIN_US = 500


def run() -> list[Result]:
    """Count 3 M uniformly spread events of 300 ms (10 M/s, near a DAVIS346's limit) into bins of 500 us."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        events = _events()
        planes = EventPlanes(_GEOMETRY, _BIN_US)

        def count() -> None:
            planes.reset(0, _SPAN_US)
            planes.add(events)

        ours_s = median_s(count, runs=9)
        reference_s = median_s(lambda: _reference(events), runs=3, warm_up=1)
    finally:
        torch.set_num_threads(threads)
    conditions = "346 x 260, 10 M events/s, bins of 500 us, one thread"
    return [
        Result("events_per_s", _EVENTS / ours_s, "events/s", conditions),
        Result("reference_ratio", reference_s / ours_s, "x", "time of numpy.bincount over ours"),
    ]


def _events() -> EventBatch:
    rng = np.random.default_rng(1)
    return EventBatch(
        np.sort(rng.integers(0, _SPAN_US, _EVENTS)).astype(np.int64),
        rng.integers(0, _GEOMETRY.width, _EVENTS).astype(np.uint16),
        rng.integers(0, _GEOMETRY.height, _EVENTS).astype(np.uint16),
        rng.integers(0, 2, _EVENTS).astype(np.uint8),
        _SPAN_US,
    )


def _reference(events: EventBatch) -> None:
    cell = ((events.t_us // _BIN_US * 2 + events.p) * _GEOMETRY.height + events.y) * _GEOMETRY.width + events.x
    np.bincount(cell, minlength=_SPAN_US // _BIN_US * 2 * _GEOMETRY.height * _GEOMETRY.width)
