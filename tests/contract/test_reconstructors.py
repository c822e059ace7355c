"""What every backend must keep, whatever its method: shapes, refusals, repetition, and no memory between windows."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from nire.errors import ConfigError, ShutterOutsideWindow
from nire.metrics import psnr
from nire.shutter import Shutter
from nire.types import (
    Calibration,
    ContentWindow,
    EventBatch,
    Frame,
    Gap,
    Geometry,
    Query,
    Reconstructor,
    Transfer,
)
from stream.backends import backends
from tests.nire.windows import random_events, random_frame

Image = NDArray[np.uint8]

TAKES = {"auto": (1, 2), "edi": (1, 2), "passthrough": (1, 2), "flow": (1, 2), "neural": (1, 2), "events_only": (0,)}
"""How many frames the windows of each backend may have."""
CASES = [pytest.param(name, count, id=f"{name}-{count}") for name, counts in TAKES.items() for count in counts]
FRAMES = [
    pytest.param(name, count, id=f"{name}-{count}") for name, counts in TAKES.items() for count in counts if count
]
each_case = pytest.mark.parametrize(("name", "count"), CASES)

GRAY, COLOUR = Geometry(40, 36), Geometry(40, 36, 3)
T0_US, T1_US = 90_000, 170_000
INSIDE_US = np.array([101_000.0, 109_500.0, 118_000.0])
"""Instants that a window of any number of frames covers."""
# A network multiplies batches of other sizes in another order: the last bit, and with it a level, may differ.
LEVELS = {"auto": 1, "neural": 1, "events_only": 1}


def made(name: str, geometry: Geometry = GRAY) -> Reconstructor:
    module = importlib.import_module(f"nire.backends.{name}")
    # What engines keep, test_engines.py holds.
    settings: dict[str, Any] = {"engine": "eager", "precision": "fp32"} if name in LEVELS else {}
    backend: Reconstructor = module.create(geometry, "cpu", **settings)
    return backend


def window(
    count: int,
    geometry: Geometry = GRAY,
    *,
    events: EventBatch | None = None,
    row_delay_us: float = 0.0,
    transfer: Transfer = "linear",
    later_us: int = 0,
    **changes: Any,
) -> ContentWindow:
    """Make a window of 80 ms with frames exposed for 20 ms, from 10 and from 50 ms on."""
    starts = [start + later_us for start in (100_000, 140_000)[:count]]
    drawn = [
        random_frame(7 + i, i, start, start + 20_000, row_delay_us=row_delay_us, geometry=geometry)
        for i, start in enumerate(starts)
    ]
    frames = tuple(replace(frame, transfer=transfer) for frame in drawn)
    if events is None:
        events = random_events(2, 3000, T0_US, T1_US, geometry)
    events = replace(events, t_us=events.t_us + later_us, watermark_us=T1_US + later_us)
    last_us = T1_US if count == 0 else frames[-1].last_us + 5000
    covered_us = (95_000.0 + later_us, float(last_us + (later_us if count == 0 else 0)))
    made = ContentWindow(0, T0_US + later_us, T1_US + later_us, frames, events, geometry, covered_us=covered_us)
    return replace(made, **{"calibration": Calibration(0.2, 0.3), **changes})


def instants(*t_us: float) -> list[Shutter]:
    return [Shutter.instant(t, GRAY.height) for t in t_us]


def exposed(backend: Reconstructor, made: ContentWindow, shutters: Sequence[Shutter]) -> Image:
    queries = [Query(made.film, shutter, "test") for shutter in shutters]
    return np.array(backend.expose(backend.build(made), queries))


def of_shape(*shape: int) -> Shutter:
    times = np.full(shape, INSIDE_US[1])
    return Shutter(times, times)


def assert_same(name: str, found: Image, expected: Image) -> None:
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= LEVELS.get(name, 0)


def test_every_backend_of_the_package_is_here() -> None:
    assert sorted(TAKES) == backends()


# What comes out


@each_case
@pytest.mark.parametrize("geometry", [GRAY, COLOUR], ids=["gray", "colour"])
def test_images_have_the_shape_of_the_film_and_the_order_of_the_queries(
    name: str, count: int, geometry: Geometry
) -> None:
    backend, asked = made(name, geometry), [*instants(*INSIDE_US), Shutter.flat(104_000, 112_000, GRAY.height)]
    images = exposed(backend, window(count, geometry), asked)
    assert images.shape == (4, 36, 40, geometry.channels)
    assert images.dtype == np.uint8
    assert (backend.name, bool(backend.engine)) == ("neural" if name == "auto" else name, True)
    assert_same(name, exposed(backend, window(count, geometry), asked[::-1]), images[::-1])


@pytest.mark.parametrize(("name", "count"), FRAMES)
@pytest.mark.parametrize("transfer", ["linear", "srgb"])
@pytest.mark.parametrize("row_delay_us", [0.0, 60.0], ids=["global", "rolling"])
@pytest.mark.parametrize("geometry", [GRAY, COLOUR], ids=["gray", "colour"])
def test_own_shutter_of_a_frame_gives_that_frame(
    name: str, count: int, transfer: Transfer, row_delay_us: float, geometry: Geometry
) -> None:
    given = window(count, geometry, transfer=transfer, row_delay_us=row_delay_us)
    images = exposed(made(name, geometry), given, [frame.shutter for frame in given.frames])
    for image, frame in zip(images, given.frames, strict=True):
        # Frame and events are noise: a network is there to take that away (gray alone would give 11 dB). But it leaves
        # in the frame's transfer. And flow moves frames to where noise has moved.
        assert psnr(image, frame.pixels) >= {"auto": 13, "neural": 13, "flow": 10}.get(name, 50)
        assert abs(float(image.mean()) - float(frame.pixels.mean())) < 20


def smooth(pixels: np.ndarray) -> np.ndarray:
    """Make a scene of noise: blurred, and as bright and dark as before."""
    blurred = cv2.GaussianBlur(pixels[..., 0].astype(np.float32), (0, 0), 2.0)
    return cv2.normalize(blurred, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)[..., None]


@each_case
def test_window_in_which_nothing_happened_is_the_same_at_every_shutter(name: str, count: int) -> None:
    still = window(min(count, 1), events=EventBatch.empty(T1_US))
    if name in LEVELS:  # no network has learned what white noise is, but what a scene is
        frames = (replace(frame, pixels=smooth(frame.pixels)) for frame in still.frames)
        still = replace(still, frames=tuple(frames))
    if count == 2:
        second = replace(still.frames[0], index=1, exposure_start_us=140_000, exposure_end_us=160_000)
        still = replace(still, frames=(*still.frames, second))
    images = exposed(made(name), still, [*instants(*INSIDE_US), Shutter.flat(101_000, 119_000, GRAY.height)])
    # A network may think otherwise of a scene than its frame does, but not otherwise at every moment: by a level.
    expected, least_db = (images[0], 46) if name in LEVELS else (still.frames[0].pixels, 50)
    for image in images:
        assert psnr(image, expected) >= least_db


def test_nothing_known_is_middle_gray() -> None:
    images = exposed(made("events_only"), window(0, events=EventBatch.empty(T1_US)), instants(*INSIDE_US))
    assert 110 < np.median(images) < 165


# Shutters


@each_case
def test_shutter_of_each_pixel_that_repeats_those_of_the_rows_gives_the_same(name: str, count: int) -> None:
    rows = Shutter.rolling(101_000, 106_000, row_delay_us=200.0, height=GRAY.height)
    wide = (GRAY.height, GRAY.width)
    pixels = Shutter(*(np.broadcast_to(t[:, None], wide).copy() for t in (rows.t_a_us, rows.t_b_us)))
    backend = made(name)
    assert_same(name, exposed(backend, window(count), [pixels]), exposed(backend, window(count), [rows]))


@each_case
def test_shutters_of_rows_and_of_pixels_may_be_asked_together(name: str, count: int) -> None:
    (rows,) = instants(110_000.0)
    pixels = Shutter(*(np.full((GRAY.height, GRAY.width), 110_000.0) for _ in range(2)))
    first, second = exposed(made(name), window(count), [rows, pixels])
    assert_same(name, first, second)


@each_case
def test_shutter_beyond_the_covered_span_is_refused(name: str, count: int) -> None:
    backend, given = made(name), window(count)
    first_us, last_us = given.covered_us
    exposed(backend, given, instants(first_us, last_us))
    rolling = Shutter.instant(last_us - 100, GRAY.height, row_delay_us=50.0)
    for beyond in (*instants(first_us - 1, last_us + 1), rolling):
        with pytest.raises(ShutterOutsideWindow):
            exposed(backend, given, [*instants(110_000.0), beyond])


# Windows


@pytest.mark.parametrize("name", [name for name, counts in TAKES.items() if 0 not in counts])
def test_window_without_a_frame_is_refused_where_frames_are_needed(name: str) -> None:
    backend = made(name)
    if name == "auto":
        pytest.skip("what it takes is what its method takes; without frames another backend is opened")
    assert backend.needs_frames
    with pytest.raises(ValueError, match="frame"):
        backend.build(window(0))


@pytest.mark.parametrize("count", [1, 2])
def test_frames_are_refused_by_the_backend_that_would_ignore_them(count: int) -> None:
    backend = made("events_only")
    assert not backend.needs_frames
    with pytest.raises(ConfigError, match=r"window\.policy = 'auto'"):
        backend.build(window(count))


@each_case
@pytest.mark.parametrize(
    "gaps",
    [
        (Gap(121_000, 139_000, "between the exposures"),),
        (Gap(105_000, 108_000, "inside the first"), Gap(150_000, 400_000, "from the second on")),
        (Gap(0, 10**9, "everything"),),
        (Gap(110_000, 110_000, "a point"),),
    ],
    ids=["between", "inside", "all", "point"],
)
def test_gaps_are_answered_across(name: str, count: int, gaps: tuple[Gap, ...]) -> None:
    events = random_events(2, 3000, T0_US, T1_US, GRAY)
    kept = np.ones(len(events), bool)
    for gap in gaps:
        kept &= (events.t_us < gap.t0_us) | (events.t_us >= gap.t1_us)
    left = EventBatch(events.t_us[kept], events.x[kept], events.y[kept], events.p[kept], T1_US)
    images = exposed(made(name), window(count, events=left, gaps=gaps), instants(*INSIDE_US, 119_900.0))
    assert images.shape == (4, 36, 40, 1)


@each_case
def test_events_of_hot_pixels_are_not_used(name: str, count: int) -> None:
    events = random_events(2, 3000, T0_US, T1_US, GRAY)
    hot = np.zeros((GRAY.height, GRAY.width), bool)
    hot[10:14, 5:9] = True
    cold = ~hot[events.y, events.x]
    without = EventBatch(events.t_us[cold], events.x[cold], events.y[cold], events.p[cold], T1_US)
    calibration = Calibration(0.2, 0.3, hot_pixels=hot)
    masked = exposed(made(name), window(count, calibration=calibration), instants(*INSIDE_US))
    removed = exposed(made(name), window(count, events=without), instants(*INSIDE_US))
    assert_same(name, masked, removed)


@each_case
def test_time_offset_shifts_the_events_and_nothing_else(name: str, count: int) -> None:
    offset_us = 2000
    events = random_events(2, 3000, T0_US, T1_US, GRAY)
    expected = exposed(made(name), window(count, events=events), instants(*INSIDE_US))
    stamped = replace(
        window(count, events=replace(events, t_us=events.t_us + offset_us)),
        t0_us=T0_US + offset_us,
        t1_us=T1_US + offset_us,
        calibration=Calibration(0.2, 0.3, float(offset_us)),
    )
    assert_same(name, exposed(made(name), stamped, instants(*INSIDE_US)), expected)


@each_case
def test_clock_of_another_epoch_gives_the_same_images(name: str, count: int) -> None:
    """Recordings are stamped with microseconds since 1970: too large for a float32, or a careless difference."""
    later_us = 1_600_000_000_000_000
    backend = made(name)
    images = exposed(backend, window(count, later_us=later_us), instants(*(INSIDE_US + later_us)))
    assert_same(name, images, exposed(backend, window(count), instants(*INSIDE_US)))


# Calls


@each_case
def test_image_does_not_depend_on_what_else_is_asked(name: str, count: int) -> None:
    backend, shutters = made(name), instants(*np.linspace(101_000, 119_000, 8))
    together = exposed(backend, window(count), shutters)
    for k in (0, 3, 7):
        assert_same(name, exposed(backend, window(count), [shutters[k]])[0], together[k])


@each_case
def test_content_is_asked_again_and_again(name: str, count: int) -> None:
    backend, given = made(name), window(count)
    content = backend.build(given)
    queries = [Query(given.film, shutter, "test") for shutter in instants(*INSIDE_US)]
    first = np.array(backend.expose(content, queries))
    backend.expose(content, [Query(given.film, Shutter.flat(102_000, 117_000, GRAY.height), "test")])
    np.testing.assert_array_equal(backend.expose(content, queries), first)


@each_case
def test_content_that_was_replaced_is_refused_or_still_right(name: str, count: int) -> None:
    backend, given = made(name), window(count)
    queries = [Query(given.film, shutter, "test") for shutter in instants(*INSIDE_US)]
    old = backend.build(given)
    expected = np.array(backend.expose(old, queries))
    backend.build(window(count, events=EventBatch.empty(T1_US)))
    if name == "passthrough":
        np.testing.assert_array_equal(backend.expose(old, queries), expected)
        return
    with pytest.raises(ValueError, match="replaced"):
        backend.expose(old, queries)


@each_case
def test_same_window_gives_the_same_images_whatever_was_before(name: str, count: int) -> None:
    fresh = exposed(made(name), window(count), instants(*INSIDE_US))
    used = made(name)
    for other in TAKES[name]:
        exposed(used, window(other, events=random_events(5, 900, T0_US, T1_US, GRAY)), instants(104_000.0))
    np.testing.assert_array_equal(exposed(used, window(count), instants(*INSIDE_US)), fresh)


@each_case
def test_what_is_given_is_not_written_to(name: str, count: int) -> None:
    given = window(count)
    arrays = [frame.pixels for frame in given.frames] + [given.events.t_us, given.events.x, given.events.p]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    exposed(made(name), given, instants(*INSIDE_US))
    assert all(np.array_equal(array, copy) for array, copy in zip(arrays, before, strict=True))
    assert all(isinstance(frame, Frame) for frame in given.frames)


# Colour


@pytest.mark.parametrize("name", ["flow", "neural"])
def test_methods_that_mix_pixels_see_no_mosaic(name: str) -> None:
    plain, behind_a_filter = (
        exposed(made(name, geometry), window(2, geometry), instants(*INSIDE_US))
        for geometry in (COLOUR, replace(COLOUR, bayer="RGGB"))
    )
    assert_same(name, behind_a_filter, plain)


@each_case
@pytest.mark.parametrize(
    "shape", [(1,), (35,), (37,), (100,), (36, 1), (36, 39), (36, 41), (40, 36), (1, 40), (35, 40)], ids=str
)
def test_shutter_of_another_sensor_is_refused(name: str, count: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"has times for .*, expected 36 rows, or 36 x 40 pixels"):
        exposed(made(name), window(count), [of_shape(*shape)])
    with pytest.raises(ValueError, match="expected 36 rows"):
        exposed(
            made(name), window(count), [of_shape(36), replace(of_shape(*shape), t_b_us=of_shape(*shape).t_a_us + 9000)]
        )
