"""The double integral: time of a build and of a query, and how much faster a query is than the exact one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from nire.backends import edi
from nire.shutter import Shutter
from nire.types import ContentWindow, Film, Query

from .exact import exact_instant
from .material import pairs
from .report import Result
from .timing import median_s

_BATCH = 8
_STEP_US = 1000


def run() -> list[Result]:
    """Measure on a `pair` window of the synthetic camera, 346 x 260."""
    other, window = pairs(0.4)[2:4]
    geometry = window.geometry
    backend = edi.create(geometry)
    film = Film(geometry.height, geometry.width)
    first, second = (frame.mid_us for frame in window.frames)
    instants = [
        Query(film, Shutter.instant(t_us, geometry.height), "bench") for t_us in np.linspace(first, second - 1, _BATCH)
    ]
    wide = [
        Query(film, Shutter.flat(t_us - 4000, t_us + 4000, geometry.height), "bench")
        for t_us in np.linspace(first, second - 1, _BATCH)
    ]
    rolling = [
        Query(film, Shutter.rolling(t_us, t_us, row_delay_us=20.0, height=geometry.height), "bench")
        for t_us in np.linspace(first, second - 6000, _BATCH)
    ]
    # A window that is built twice in a row costs nothing the second time: two take turns.
    turns = itertools.cycle((window, other))
    build_s = median_s(lambda: backend.build(next(turns)), runs=30)
    edges = itertools.count(int(window.frames[0].last_us), _STEP_US)
    backend.build(_until(window, next(edges)))
    step_s = median_s(lambda: backend.build(_until(window, next(edges))), runs=15)
    content = backend.build(window)
    query_s, wide_s, rolling_s = (
        median_s(lambda queries=queries: backend.expose(content, queries), runs=15) / _BATCH  # type: ignore[misc]
        for queries in (instants, wide, rolling)
    )
    frame = window.frames[0]
    exact_s = median_s(lambda: exact_instant(frame, window.events, first, window.calibration), runs=5, warm_up=1)
    conditions = f"346 x 260, two frames, {len(window.events):,} events"
    return [
        Result("build_ms", 1e3 * build_s, "ms", conditions),
        Result("step_ms", 1e3 * step_s, "ms", f"a window of one frame that grows by {_STEP_US / 1e3:g} ms"),
        Result("query_ms", 1e3 * query_s, "ms", f"an instant, {_BATCH} in a batch, 8-bit image included"),
        Result("wide_query_ms", 1e3 * wide_s, "ms", "an exposure of 8 ms"),
        Result("rolling_query_ms", 1e3 * rolling_s, "ms", "an instant with a row delay of 20 us"),
        Result(
            "exact_ratio", exact_s / query_s, "x", "time of the exact per-event image (numpy, one frame) over a query"
        ),
    ]


def _until(window: ContentWindow, t1_us: int) -> ContentWindow:
    """Make the window of its first frame alone that ends sooner."""
    events = window.events
    part = slice(0, int(np.searchsorted(events.t_us, t1_us)))
    shorter = replace(events, t_us=events.t_us[part], x=events.x[part], y=events.y[part], p=events.p[part])
    return replace(window, t1_us=t1_us, frames=window.frames[:1], events=shorter)
