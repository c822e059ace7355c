"""The double integral against analytic truth and against the exact per-event reference."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nire.backends import edi
from nire.integral import layout_loops
from nire.integral.double_integral import DARK_LEVEL, DoubleIntegral
from nire.light import ENCODE_STEPS, encode_table
from nire.ramps import RAMP_SHARE
from nire.shutter import Shutter
from nire.types import Calibration, ContentWindow, EventBatch, Film, Frame, Gap, Geometry, Query, Transfer
from tests.nire.integral.exact_integral import ExactPixel, exact_exposure
from tests.nire.windows import GEOMETRY, random_events, random_frame, window_of

HEIGHT = GEOMETRY.height


def built(window: ContentWindow, bin_us: int = 500) -> DoubleIntegral:
    integral = DoubleIntegral(bin_us)
    integral.build(window, [light(frame) for frame in window.frames])
    return integral


def light(frame: Frame) -> torch.Tensor:
    return torch.from_numpy(frame.pixels).permute(2, 0, 1).float()


def exposed(integral: DoubleIntegral, shutter: Shutter) -> NDArray[np.float32]:
    return integral.expose(shutter)[0].numpy().copy()


def one_frame(count: int = 1500, **changes: object) -> ContentWindow:
    frame = random_frame(1, 0, 100_000, 120_000)
    return window_of((frame,), random_events(2, count, 80_000, 140_000), **changes)  # type: ignore[arg-type]


def two_frames(count: int = 3000, **changes: object) -> ContentWindow:
    frames = (random_frame(1, 0, 100_000, 120_000), random_frame(3, 1, 140_000, 160_000))
    return window_of(frames, random_events(2, count, 80_000, 180_000), **changes)  # type: ignore[arg-type]


def exactly(window: ContentWindow, shutter: Shutter) -> NDArray[np.float64]:
    reach_us = RAMP_SHARE * (window.t1_us - window.t0_us)
    times = shutter.t_a_us, shutter.t_b_us
    return exact_exposure(window.frames[0], window.events, *times, window.calibration, reach_us=reach_us)


def test_instant_equals_the_exact_reference_to_rounding() -> None:
    window = one_frame()
    integral = built(window, bin_us=20)
    for t_us in (95_000.0, 100_000.0, 107_123.0, 119_999.0, 127_500.0):
        shutter = Shutter.instant(t_us, HEIGHT)
        np.testing.assert_allclose(exposed(integral, shutter), exactly(window, shutter), rtol=2e-3, atol=0.05)


@pytest.mark.parametrize("by_torch", [False, True])
def test_interval_equals_the_exact_reference_to_rounding(by_torch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_torch:
        monkeypatch.setattr("nire.integral.loops.serve", lambda *_, **__: False)
    window = one_frame()
    integral = built(window)
    for shutter in (
        Shutter.flat(96_300.0, 111_700.0, HEIGHT),
        Shutter.rolling(9.7e4, 1.05e5, row_delay_us=500.0, height=HEIGHT),
    ):
        np.testing.assert_allclose(exposed(integral, shutter), exactly(window, shutter), rtol=2e-3, atol=0.05)


def test_light_is_on_its_way_to_an_event_before_it_comes_but_not_across_a_gap() -> None:
    events = EventBatch(
        np.array([125_000, 128_000], np.int64), np.array([5, 6], np.uint16), np.array([4, 4], np.uint16),
        np.ones(2, np.uint8), 140_000,
    )  # fmt: skip
    frame = replace(random_frame(1, 0, 100_000, 120_000), pixels=np.full((HEIGHT, GEOMETRY.width, 1), 99, np.uint8))
    window = window_of((frame,), events)
    reach_us = RAMP_SHARE * (window.t1_us - window.t0_us)
    halfway = Shutter.instant(125_000 - reach_us / 2, HEIGHT)
    brighter = 100 * np.exp(window.calibration.threshold_positive) - 1
    assert exposed(built(window), halfway)[4, 5] == pytest.approx((99 + brighter) / 2, rel=1e-3)
    cut = replace(window, gaps=(Gap(124_000, 124_900, "lost"),))
    assert exposed(built(cut), halfway)[4, 5] == pytest.approx(99, rel=1e-3)


def test_rolling_shutter_out_of_a_rolling_frame_equals_the_exact_reference() -> None:
    frame = random_frame(5, 0, 100_000, 112_000, row_delay_us=700.0)
    window = window_of((frame,), random_events(6, 1500, 80_000, 140_000))
    integral = built(window, bin_us=50)
    for shutter in (
        Shutter.rolling(98_000.0, 98_000.0, row_delay_us=900.0, height=HEIGHT),
        Shutter.rolling(99_000.0, 108_000.0, row_delay_us=-250.0, height=HEIGHT),
        frame.shutter,
    ):
        np.testing.assert_allclose(exposed(integral, shutter), exactly(window, shutter), rtol=2e-3, atol=0.05)


def test_time_offset_moves_the_events_not_the_frames() -> None:
    offset_us = 3500.0
    plain = one_frame()
    events = replace(plain.events, t_us=plain.events.t_us + int(offset_us))
    late = replace(
        plain, events=events, t0_us=plain.t0_us + 3500, t1_us=plain.t1_us + 3500,
        calibration=replace(plain.calibration, time_offset_us=offset_us),
    )  # fmt: skip
    shutter = Shutter.instant(103_000.0, HEIGHT)
    np.testing.assert_allclose(exposed(built(late), shutter), exposed(built(plain), shutter), rtol=1e-3, atol=0.5)


@pytest.mark.parametrize("row_delay_us", [0.0, 333.0])
@pytest.mark.parametrize("exposure_us", [0, 300, 1700, 20_000])
def test_frame_exposed_at_its_own_shutter_is_the_frame(exposure_us: int, row_delay_us: float) -> None:
    frames = tuple(
        random_frame(i, i, start, start + exposure_us, row_delay_us=row_delay_us)
        for i, start in enumerate((100_003, 140_017))
    )
    window = window_of(frames, random_events(2, 3000, 80_000, 190_000))
    integral = built(window)
    for frame in frames:
        np.testing.assert_allclose(exposed(integral, frame.shutter), frame.pixels[..., 0], atol=0.25)


def test_static_scene_is_the_same_at_every_shutter() -> None:
    first = two_frames().frames[0]
    second = replace(first, index=1, exposure_start_us=140_000, exposure_end_us=160_000)
    window = replace(two_frames(0), frames=(first, second))
    integral = built(window)
    for shutter in (
        Shutter.instant(95_000.0, HEIGHT),
        Shutter.instant(131_000.0, HEIGHT),
        Shutter.flat(9.6e4, 1.65e5, HEIGHT),
    ):
        np.testing.assert_allclose(exposed(integral, shutter), window.frames[0].pixels[..., 0], atol=0.01)


@pytest.mark.parametrize("span", [(101_000.0, 113_000.0), (112_345.0, 148_765.0)])
def test_two_half_exposures_average_to_the_whole(span: tuple[float, float]) -> None:
    integral = built(two_frames())
    mid = (span[0] + span[1]) / 2
    first, second, whole = (
        exposed(integral, Shutter.flat(a, b, HEIGHT)) for a, b in ((span[0], mid), (mid, span[1]), span)
    )
    np.testing.assert_allclose((first + second) / 2, whole, rtol=1e-2, atol=0.3)


def test_one_pixel_shutters_equal_the_flat_ones_pixel_by_pixel() -> None:
    integral = built(two_frames())
    times = np.linspace(98_000.0, 162_000.0, HEIGHT * GEOMETRY.width).reshape(HEIGHT, GEOMETRY.width)
    image = exposed(integral, Shutter(times, times + 4000))
    for y, x in ((0, 0), (3, 7), (8, 11)):
        flat = exposed(integral, Shutter.flat(times[y, x], times[y, x] + 4000, HEIGHT))
        assert image[y, x] == pytest.approx(flat[y, x], rel=2e-2, abs=0.5)


def test_inside_an_exposure_its_own_frame_leads_and_between_them_the_share_moves() -> None:
    window = two_frames(0)
    integral = built(window)
    first, second = (frame.pixels[..., 0].astype(float) for frame in window.frames)
    np.testing.assert_allclose(exposed(integral, Shutter.instant(119_000.0, HEIGHT)), first, atol=0.01)
    np.testing.assert_allclose(
        exposed(integral, Shutter.instant(125_000.0, HEIGHT)), 0.75 * first + 0.25 * second, atol=0.01
    )
    np.testing.assert_allclose(exposed(integral, Shutter.instant(141_000.0, HEIGHT)), second, atol=0.01)


def test_pixel_with_many_events_since_one_frame_is_told_by_the_other() -> None:
    # Ten events after the first exposure at one pixel, none there before the second.
    count = 10
    t_us = np.arange(121_000, 121_000 + count, dtype=np.int64)
    polarity = (np.arange(count) % 2).astype(np.uint8)
    events = EventBatch(t_us, np.full(count, 5, np.uint16), np.full(count, 4, np.uint16), polarity, 180_000)
    window = replace(two_frames(0), events=events, calibration=Calibration(0.2, 0.2))
    image = exposed(built(window), Shutter.instant(130_000.0, HEIGHT))
    first, second = (frame.pixels[..., 0].astype(float) for frame in window.frames)
    assert image[4, 5] == pytest.approx(second[4, 5], abs=0.1 * abs(first[4, 5] - second[4, 5]))
    assert image[4, 6] == pytest.approx((first[4, 6] + second[4, 6]) / 2, abs=0.01)


def test_no_frame_answers_across_a_gap_that_the_other_can_avoid() -> None:
    window = two_frames(0, gaps=(Gap(128_000, 132_000, "lost"),))
    integral = built(window)
    first, second = (frame.pixels[..., 0].astype(float) for frame in window.frames)
    for t_us, expected in ((127_000.0, first), (129_000.0, first), (131_000.0, second), (133_000.0, second)):
        np.testing.assert_allclose(exposed(integral, Shutter.instant(t_us, HEIGHT)), expected, atol=0.01)


def test_events_of_hot_pixels_are_ignored() -> None:
    hot = np.zeros((HEIGHT, GEOMETRY.width), bool)
    hot[4, 5] = True
    window = one_frame()
    masked = replace(window, calibration=replace(window.calibration, hot_pixels=hot))
    image = exposed(built(masked), Shutter.instant(101_000.0, HEIGHT))
    assert image[4, 5] == pytest.approx(window.frames[0].pixels[4, 5, 0], abs=0.01)
    plain = exposed(built(window), Shutter.instant(101_000.0, HEIGHT))
    np.testing.assert_allclose(np.delete(image, 4, axis=0), np.delete(plain, 4, axis=0))


def test_pixel_that_fires_without_end_stays_finite() -> None:
    t_us = np.arange(90_000, 125_000, 5, dtype=np.int64)
    n = len(t_us)
    events = EventBatch(t_us, np.full(n, 3, np.uint16), np.full(n, 2, np.uint16), np.ones(n, np.uint8), 130_000)
    integral = built(window_of((random_frame(1, 0, 100_000, 120_000),), events))
    for shutter in (Shutter.instant(95_000.0, HEIGHT), Shutter.flat(95_000.0, 125_000.0, HEIGHT)):
        assert np.isfinite(exposed(integral, shutter)).all()


def test_colour_channels_share_the_gain() -> None:
    geometry = Geometry(12, 9, 3)
    frame = random_frame(1, 0, 100_000, 120_000, geometry=geometry)
    window = window_of((frame,), random_events(2, 1500, 80_000, 140_000), geometry=geometry)
    integral = built(window)
    image = integral.expose(Shutter.instant(103_000.0, HEIGHT)).numpy() + 1.0
    gain = image / (frame.pixels.transpose(2, 0, 1) + 1.0)
    kept = (image > 1.5).all(axis=0)
    np.testing.assert_allclose(gain[0][kept], gain[2][kept], rtol=1e-3)


def blended_exactly(window: ContentWindow, t_a_us: float, t_b_us: float, x: int, y: int) -> float:
    """One pixel between two frames, in plain numbers: Eq. 5 with the second frame's part in trapezoids of bins."""
    reach_us = RAMP_SHARE * (window.t1_us - window.t0_us)
    pixel = ExactPixel(window.events, x, y, window.calibration, reach_us)
    spans = [(float(frame.exposure_start_us), float(frame.exposure_end_us)) for frame in window.frames]
    first, second = (
        (float(frame.pixels[y, x, 0]) + DARK_LEVEL) / pixel.mean_gain(*span)
        for frame, span in zip(window.frames, spans, strict=True)
    )

    def events(t_us: float) -> int:
        return sum(t <= t_us for t in pixel.times)

    def share(t_us: float) -> float:
        ramp = min(max((t_us - spans[0][1]) / (spans[1][0] - spans[0][1]), 0.0), 1.0)
        after = ramp * (events(t_us) - events(spans[0][0]) + 0.5)
        return after / (after + (1 - ramp) * (events(spans[1][1]) - events(t_us) + 0.5))

    edges = [float(t) for t in range(window.t0_us // 500 * 500, window.t1_us, 500) if t_a_us < t < t_b_us]
    nodes = [t_a_us, *edges, t_b_us]
    values = [share(t_us) * pixel.gain(t_us) for t_us in nodes]
    blended = sum((b - a) * (v + w) / 2 for a, b, v, w in zip(nodes, nodes[1:], values, values[1:], strict=False))
    light = first * pixel.mean_gain(t_a_us, t_b_us) + (second - first) * blended / (t_b_us - t_a_us)
    return max(light - DARK_LEVEL, 0.0)


@pytest.mark.parametrize("count", [400, 3000, 20_000])
def test_blended_interval_equals_the_exact_reference_to_rounding(count: int) -> None:
    window = two_frames(count, calibration=Calibration(0.05, 0.06))
    image = exposed(built(window), Shutter.flat(118_300.0, 131_700.0, HEIGHT))
    for y, x in itertools.product(range(0, HEIGHT, 3), range(0, GEOMETRY.width, 4)):
        assert image[y, x] == pytest.approx(blended_exactly(window, 118_300.0, 131_700.0, x, y), rel=2e-4, abs=0.02)


def test_images_do_not_depend_on_what_was_asked_before() -> None:
    window = two_frames(6000)
    shutters = [Shutter.instant(t_us, HEIGHT) for t_us in np.linspace(100_000.0, 160_000.0, 23)]
    shutters += [
        Shutter.flat(112_000.0, 121_000.0, HEIGHT),
        Shutter.rolling(1.1e5, 1.1e5, row_delay_us=900, height=HEIGHT),
    ]
    alone = [exposed(built(window), shutter) for shutter in shutters]
    integral = built(window)
    for k in np.random.default_rng(3).permutation(np.repeat(np.arange(len(shutters)), 3)):
        np.testing.assert_array_equal(exposed(integral, shutters[k]), alone[k])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("row_delay_us", [0.0, 400.0])
def test_exposures_are_the_same_by_bands_of_rows(
    row_delay_us: float, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Larger sensors have many bands, and encode the light of some at a time; the small ones of tests have one."""
    geometry = Geometry(12, 9, channels)
    frames = tuple(
        random_frame(k, k, start, start + 20_000, geometry=geometry) for k, start in enumerate((100_000, 140_000))
    )
    window = window_of(frames, random_events(2, 5000, 80_000, 180_000), geometry=geometry)
    shutter = Shutter.rolling(1.12e5, 1.31e5, row_delay_us=row_delay_us, height=HEIGHT)
    made = []
    for band in (40_000, 1, 24):
        monkeypatch.setattr(layout_loops, "_BAND", band)
        backend = edi.create(geometry)
        content = backend.build(window)
        image = backend.expose(content, [Query(Film(HEIGHT, 12), shutter, "")])[0]
        made.append((np.array(image), backend.light_at(shutter).numpy().copy()))
    for image, exposed_light in made[1:]:
        np.testing.assert_array_equal(image, made[0][0])
        np.testing.assert_array_equal(exposed_light, made[0][1])


@pytest.mark.parametrize("transfer", ["linear", "srgb"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_written_at_once_are_the_encoded_light(channels: int, transfer: Transfer) -> None:
    geometry = Geometry(12, 9, channels)
    frames = tuple(
        replace(random_frame(k, k, start, start + 20_000, geometry=geometry), transfer=transfer)
        for k, start in enumerate((100_000, 140_000))
    )
    window = window_of(frames, random_events(2, 3000, 80_000, 180_000), geometry=geometry)
    backend = edi.create(geometry)
    content = backend.build(window)
    for shutters in (
        [Shutter.instant(t_us, HEIGHT) for t_us in (103_000.0, 131_000.0, 128_000.0)],
        [Shutter.flat(t_us, t_us + 9000, HEIGHT) for t_us in (103_000.0, 121_000.0)],
        [Shutter.rolling(1.2e5, 1.2e5, row_delay_us=800.0, height=HEIGHT), Shutter.flat(1.2e5, 1.3e5, HEIGHT)],
    ):
        images = backend.expose(content, [Query(Film(HEIGHT, 12), shutter, "") for shutter in shutters]).copy()
        for image, shutter in zip(images, shutters, strict=True):
            light = np.minimum(backend.light_at(shutter).permute(1, 2, 0).numpy(), 255)
            steps = (light * ENCODE_STEPS + 0.5).astype(int)
            expected = encode_table(transfer)[steps] if transfer == "srgb" else np.rint(light)
            np.testing.assert_array_equal(image, expected)


def test_image_midway_between_two_frames_is_as_bright_as_both() -> None:
    frames = tuple(random_frame(5, k, start, start + 20_000) for k, start in enumerate((100_000, 140_000)))
    first = frames[0].pixels.clip(2, 250)
    # As noise has it: half of the pixels lie between two levels.
    frames = (
        replace(frames[0], pixels=first),
        replace(frames[1], pixels=first + np.random.default_rng(6).integers(-2, 3, first.shape).astype(np.uint8)),
    )
    backend = edi.create(GEOMETRY)
    content = backend.build(window_of(frames, random_events(1, 0, 80_000, 180_000)))
    midway = backend.expose(content, [Query(Film(HEIGHT, GEOMETRY.width), Shutter.instant(130_000.0, HEIGHT), "")])[0]
    mean = (frames[0].pixels.astype(float) + frames[1].pixels) / 2
    assert np.abs(midway - mean).max() <= 0.5
    assert abs((midway - mean).mean()) < 0.04


def test_window_without_frames_is_refused() -> None:
    window = replace(one_frame(), frames=())
    with pytest.raises(ValueError, match="one or two frames, got 0"):
        DoubleIntegral(500).build(window, [])


@pytest.mark.parametrize("t_us", [105_000.0, 125_000.0, 131_000.0, 150_000.0])
def test_estimates_weighed_by_their_trust_are_the_exposed_instant(t_us: float) -> None:
    frames = tuple(random_frame(7, i, start, start + 20_000) for i, start in enumerate((100_000, 140_000)))
    window = window_of(frames, random_events(2, 5000, 80_000, 180_000))
    integral = DoubleIntegral(500)
    integral.build(window, [torch.from_numpy(frame.pixels).float().permute(2, 0, 1) for frame in frames])
    shutter = Shutter.instant(t_us, frames[0].pixels.shape[0])
    light, trust = integral.estimates(shutter)
    weights = trust.exp() / trust.exp().sum(0)
    exposed = integral.expose(shutter)
    # A frame that has nothing to say is left e^LEAST_TRUST here.
    assert ((weights * light).sum(0) - exposed).abs().max() < 0.02 * exposed.max()
