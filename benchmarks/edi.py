"""The double integral: builds and queries by the clock, beside a copy of memory, and beside the exact image."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch

from nire.backends import edi
from nire.shutter import Shutter
from nire.types import ContentWindow, Film, Geometry, Query

from .exact import exact_instant
from .material import pairs, tiled
from .report import Result
from .timing import in_turns, median_s

_BATCH = 8
_STEP_US = 1000


_WIDE_US = 8000
_SIZES = {"": Geometry(346, 260), "_vga": Geometry(640, 480), "_hd": Geometry(1280, 720)}
# Gain and number of events, and of both frames the light and the number of events at its exposure, all of them float32;
# and an 8-bit image.
_BYTES_PER_PIXEL = 6 * 4 + 1


def run() -> list[Result]:
    """Measure on `pair` windows of the synthetic camera, 346 x 260, and of larger sensors that see it many times."""
    windows = pairs(0.4)[2:4]
    threads = torch.get_num_threads()
    try:
        results = _in_milliseconds(*windows)
        for size, geometry in _SIZES.items():
            results += _beside_a_copy(size, *(tiled(window, geometry) for window in windows))
    finally:
        torch.set_num_threads(threads)
    return results


def _in_milliseconds(window: ContentWindow, other: ContentWindow) -> list[Result]:
    geometry = window.geometry
    backend = edi.create(geometry)
    instants, wide, rolling = _queries(window)
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
    exact_s = median_s(lambda: exact_instant(frame, window.events, frame.mid_us, window.calibration), runs=5, warm_up=1)
    conditions = f"{geometry.width} x {geometry.height}, two frames, {len(window.events):,} events"
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


def _beside_a_copy(size: str, window: ContentWindow, other: ContentWindow) -> list[Result]:
    """Set queries beside a copy of memory, and builds beside their events; one thread."""
    geometry = window.geometry
    backend = edi.create(geometry, threads=1)
    content = backend.build(window)
    instants, wide, _ = _queries(window)
    moved = geometry.width * geometry.height * _BYTES_PER_PIXEL
    source = np.ones(moved // 2, np.uint8)
    target = np.empty_like(source)
    copy_s, query_s, wide_s = in_turns(
        lambda: np.copyto(target, source),
        lambda: backend.expose(content, instants),
        lambda: backend.expose(content, wide),
        runs=15,
    )
    turns = itertools.cycle((other, window))
    build_s = median_s(lambda: backend.build(next(turns)), runs=6)
    events = (len(window.events) + len(other.events)) / 2
    what = f"{geometry.width} x {geometry.height}"
    copied = f"over a copy that reads and writes {moved / 1e6:.1f} MB in all, as many as 6 float32 planes and the image"
    return [
        Result(
            f"query_copy_ratio{size}", query_s / _BATCH / copy_s, "x", f"{what}, an instant between frames {copied}"
        ),
        Result(f"wide_copy_ratio{size}", wide_s / _BATCH / copy_s, "x", f"{what}, an exposure of 8 ms over the same"),
        Result(
            f"build_meps{size}", events / build_s / 1e6, "M events/s", f"{what}, a build of {events:,.0f}, one thread"
        ),
    ]


def _queries(window: ContentWindow) -> tuple[list[Query], list[Query], list[Query]]:
    """Make batches that both frames answer: instants, exposures of 8 ms, and instants that roll."""
    height = window.geometry.height
    film = Film(height, window.geometry.width)
    begin_us, end_us = window.frames[0].last_us, window.frames[1].first_us
    instants = (Shutter.instant(t_us, height) for t_us in np.linspace(begin_us, end_us, _BATCH + 2)[1:-1])
    wide = (Shutter.flat(t_us, t_us + _WIDE_US, height) for t_us in np.linspace(begin_us, end_us - _WIDE_US, _BATCH))
    rolling = (
        Shutter.rolling(t_us, t_us, row_delay_us=20.0, height=height)
        for t_us in np.linspace(begin_us, end_us - 20 * height, _BATCH)
    )
    made = ([Query(film, shutter, "bench") for shutter in shutters] for shutters in (instants, wide, rolling))
    return tuple(made)  # type: ignore[return-value]


def _until(window: ContentWindow, t1_us: int) -> ContentWindow:
    """Make the window of its first frame alone that ends sooner."""
    events = window.events
    part = slice(0, int(np.searchsorted(events.t_us, t1_us)))
    shorter = replace(events, t_us=events.t_us[part], x=events.x[part], y=events.y[part], p=events.p[part])
    return replace(window, t1_us=t1_us, frames=window.frames[:1], events=shorter)
