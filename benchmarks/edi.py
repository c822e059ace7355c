"""The double integral: time of a build and of a query, and how much faster a query is than the exact one."""

from __future__ import annotations

import numpy as np

from benchmarks.exact import exact_instant
from benchmarks.material import pairs
from benchmarks.report import Result
from benchmarks.timing import median_s
from nire.backends import edi
from nire.shutter import Shutter
from nire.types import Film, Query

_BATCH = 8


def run() -> list[Result]:
    """Measure on a `pair` window of the synthetic camera, 346 x 260."""
    window = pairs(0.4)[3]
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
    build_s = median_s(lambda: backend.build(window), runs=15)
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
        Result("query_ms", 1e3 * query_s, "ms", f"an instant, {_BATCH} in a batch, 8-bit image included"),
        Result("wide_query_ms", 1e3 * wide_s, "ms", "an exposure of 8 ms"),
        Result("rolling_query_ms", 1e3 * rolling_s, "ms", "an instant with a row delay of 20 us"),
        Result(
            "exact_ratio", exact_s / query_s, "x", "time of the exact per-event image (numpy, one frame) over a query"
        ),
    ]
