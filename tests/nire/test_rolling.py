"""A content that grows with its window gives, bit for bit, the images of one that was built from nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drivers.cameras.synthetic import open_source
from drivers.detect import open_recording
from nire.backends import edi
from nire.integral.double_integral import DoubleIntegral
from nire.shutter import Shutter
from nire.types import Calibration, ContentWindow, EventBatch, Frame, Gap, Geometry, Packet, Query
from tests.nire.windows import GEOMETRY, random_events, random_frame

FIRST_US, T1_US = 100_000, 170_000
T0_US = FIRST_US - 5000
HOT = np.random.default_rng(4).random((GEOMETRY.height, GEOMETRY.width)) < 0.2
CALIBRATIONS = [
    pytest.param(Calibration(0.2, 0.3), id="plain"),
    pytest.param(Calibration(0.2, 0.3, 1730.4), id="offset"),
    pytest.param(Calibration(0.2, 0.3, -600.0, HOT), id="hot"),
    pytest.param(Calibration(1.9, 1.7), id="mad"),
]


def part_of(events: EventBatch, t0_us: int, t1_us: int, *, copied: bool = False) -> EventBatch:
    low, high = np.searchsorted(events.t_us, (t0_us, t1_us))
    columns = (getattr(events, name)[low:high] for name in ("t_us", "x", "y", "p"))
    return EventBatch(*(column.copy() if copied else column for column in columns), t1_us)


def frames_of(count: int, row_delay_us: float = 0.0) -> tuple[Frame, ...]:
    starts = (FIRST_US, FIRST_US + 40_000)[:count]
    return tuple(random_frame(k, k, t, t + 20_000, row_delay_us=row_delay_us) for k, t in enumerate(starts))


def whole(count: int, calibration: Calibration, *, row_delay_us: float = 0.0) -> ContentWindow:
    frames = frames_of(count, row_delay_us)
    gaps = (Gap(125_000, 127_000, "a hole"), Gap(110_000, 111_000, "a hole inside the first exposure"))
    events = random_events(2, 6000, T0_US, T1_US)
    return ContentWindow(0, T0_US, T1_US, frames, events, GEOMETRY, gaps, calibration=calibration)


def grown(window: ContentWindow, seed: int) -> Iterator[ContentWindow]:
    """Let a window grow by random steps, in one memory or in copies, with the frames that have ended by then."""
    rng = np.random.default_rng(seed)
    start_us = int(window.frames[0].last_us) + 1 if window.frames else window.t0_us + 1
    ends = np.unique([*rng.integers(start_us, window.t1_us, 9), window.t1_us])
    for end_us in ends.tolist():
        frames = tuple(frame for frame in window.frames if frame.last_us <= end_us)
        events = part_of(window.events, window.t0_us, end_us, copied=bool(rng.random() < 0.3))
        yield replace(
            window, t1_us=end_us, frames=frames, events=events, gaps=() if rng.random() < 0.2 else window.gaps
        )


def shutters_within(window: ContentWindow, seed: int) -> list[Shutter]:
    rng = np.random.default_rng(seed)
    height, width = window.geometry.height, window.geometry.width
    low, high = window.t0_us, window.t1_us

    def two() -> list[float]:
        return sorted(rng.uniform(low, high, 2).tolist())

    times = np.sort(rng.uniform(low, high, (2, height, width)), axis=0)
    return [
        Shutter.instant(float(rng.uniform(low, high)), height),
        Shutter.instant(float(high), height),
        Shutter.flat(*two(), height),
        Shutter.rolling(*two(), row_delay_us=60.0, height=height),
        Shutter(times[0], times[0]),
        Shutter(times[0], times[1]),
    ]


def light_of(window: ContentWindow) -> list[torch.Tensor]:
    return [torch.from_numpy(frame.pixels).permute(2, 0, 1).float() for frame in window.frames]


def assert_same_as_fresh(integral: DoubleIntegral, window: ContentWindow, *, bin_us: int, seed: int = 0) -> None:
    fresh = DoubleIntegral(bin_us)
    fresh.build(window, light_of(window))
    for shutter in shutters_within(window, seed):
        assert torch.equal(integral.expose(shutter), fresh.expose(shutter))


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("row_delay_us", [0.0, 170.0])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("bin_us", [500, 100])
def test_content_that_grows_equals_one_built_from_nothing(
    count: int, bin_us: int, row_delay_us: float, calibration: Calibration
) -> None:
    window = whole(count, calibration, row_delay_us=row_delay_us)
    for seed in range(2):
        integral, light = DoubleIntegral(bin_us), light_of(window)
        for k, step in enumerate(grown(window, seed)):
            integral.build(step, light[: len(step.frames)])
            if k % 2:  # what is asked in between must not matter either
                assert_same_as_fresh(integral, step, bin_us=bin_us, seed=k)
        assert_same_as_fresh(integral, window, bin_us=bin_us)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("count", [1, 2])
def test_content_that_was_begun_ahead_equals_one_built_from_nothing(count: int, calibration: Calibration) -> None:
    window = whole(count, calibration)
    for seed in range(3):
        integral, light = DoubleIntegral(500), light_of(window)
        for step in grown(window, seed):
            integral.ahead(step)
        integral.build(window, light)
        assert_same_as_fresh(integral, window, bin_us=500)


def test_window_that_extends_the_last_one_is_recognised_in_one_memory_and_in_another() -> None:
    window = whole(1, Calibration(0.2, 0.3))
    integral = DoubleIntegral(500)
    integral.build(replace(window, t1_us=140_000, events=part_of(window.events, T0_US, 140_000)), light_of(window))
    assert integral.leads_to(window)
    assert integral.leads_to(replace(window, events=part_of(window.events, T0_US, T1_US, copied=True)))
    assert integral.leads_to(replace(window, calibration=Calibration(0.2, 0.3)))


def test_window_that_only_looks_alike_is_built_from_nothing() -> None:
    window = whole(1, Calibration(0.2, 0.3))
    early = part_of(window.events, T0_US, 140_000)
    turned = window.events.p.copy()
    turned[17] ^= 1
    late = replace(window.events, t_us=window.events.t_us + (window.events.t_us > 130_000))
    others = [
        replace(window, events=replace(window.events, p=turned)),
        replace(window, events=replace(late, x=window.events.x.copy())),
        replace(window, t0_us=T0_US + 1),
        replace(window, t1_us=130_000, events=part_of(window.events, T0_US, 130_000)),
        replace(window, calibration=Calibration(0.2, 0.31)),
        replace(window, calibration=Calibration(0.2, 0.3, 1.0)),
        replace(window, calibration=Calibration(0.2, 0.3, hot_pixels=HOT)),
        replace(window, events=random_events(2, 6001, T0_US, T1_US)),
        replace(window, gaps=(Gap(100_000, 101_000, "lost"),)),
    ]
    for other in others:
        integral = DoubleIntegral(500)
        integral.build(replace(window, t1_us=140_000, events=early), light_of(window))
        assert not integral.leads_to(other)
        integral.build(other, light_of(other))
        assert_same_as_fresh(integral, other, bin_us=500)


def test_event_that_was_missing_is_not_overlooked() -> None:
    window = whole(1, Calibration(0.2, 0.3))
    integral = DoubleIntegral(500)
    # A window that said it reached 140 ms, without its last events.
    integral.build(replace(window, t1_us=140_000, events=part_of(window.events, T0_US, 139_000)), light_of(window))
    assert not integral.leads_to(window)


def test_frame_with_other_light_is_anchored_anew() -> None:
    window = whole(1, Calibration(0.2, 0.3))
    brighter = [image + 20 for image in light_of(window)]
    integral, fresh = DoubleIntegral(500), DoubleIntegral(500)
    integral.build(window, light_of(window))
    integral.build(window, brighter)
    fresh.build(window, brighter)
    shutter = Shutter.instant(123_456.0, GEOMETRY.height)
    assert torch.equal(integral.expose(shutter), fresh.expose(shutter))


# The backend, on recordings


def assert_backend_rolls(packets: list[Packet], geometry: Geometry, *, pairs: int) -> None:
    """Roll over the windows of consecutive frames, live edge and pairs, as a stream would; compare with fresh ones."""
    frames = [packet for packet in packets if isinstance(packet, Frame)][: pairs + 1]
    batches = [packet for packet in packets if isinstance(packet, EventBatch) and len(packet)]
    events = EventBatch(*(np.concatenate([getattr(b, n) for b in batches]) for n in ("t_us", "x", "y", "p")), 0)
    rolling, rng = edi.create(geometry), np.random.default_rng(1)
    for first, second in itertools.pairwise(frames):
        t0_us, t1_us = int(first.first_us) - 5000, int(second.last_us)
        window = ContentWindow(
            0, t0_us, t1_us, (first, second), part_of(events, t0_us, t1_us), geometry, calibration=Calibration(0.2, 0.3)
        )
        for k, step in enumerate(grown(window, int(rng.integers(1000)))):
            rolling.ahead(step)
            if k % 3 == 1:
                edge = replace(step, frames=(first,))
                assert_same_images(rolling, edge)
        assert_same_images(rolling, window)


def assert_same_images(rolling: edi.EdiReconstructor, window: ContentWindow) -> None:
    fresh = edi.create(window.geometry)
    queries = [Query(window.film, shutter, "test") for shutter in shutters_within(window, 3)[:4]]
    expected = fresh.expose(fresh.build(window), queries)
    np.testing.assert_array_equal(rolling.expose(rolling.build(window), queries), expected)


def test_backend_rolls_over_the_synthetic_camera() -> None:
    with open_source(width=64, height=48, seed=3, seconds=0.3, live=False) as camera:
        assert_backend_rolls([p for p in camera if isinstance(p, Packet)], camera.info.geometry, pairs=4)


@pytest.mark.real
def test_backend_rolls_over_a_real_recording(shared_data: Path) -> None:
    path = shared_data / "recordings" / "emlb_demo-01_davis346.aedat4"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with open_recording(path) as source:
        packets = [packet for packet in source if isinstance(packet, Packet)]
        assert_backend_rolls(packets, source.info.geometry, pairs=6)


def test_present_content_stays_while_the_next_one_is_begun() -> None:
    window = whole(2, Calibration(0.2, 0.3))
    backend = edi.create(GEOMETRY)
    queries = [Query(window.film, Shutter.instant(123_456.0, GEOMETRY.height), "test")]
    content = backend.build(window)
    expected = np.array(backend.expose(content, queries))
    later = replace(
        window, t0_us=T0_US + 40_000, frames=window.frames[1:], events=part_of(window.events, 135_000, T1_US)
    )
    backend.ahead(later)
    np.testing.assert_array_equal(backend.expose(content, queries), expected)
