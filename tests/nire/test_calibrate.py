"""Calibration against cameras whose thresholds, offset and hot pixels are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from drivers.cameras.synthetic import open_source
from nire import calibrate
from nire.calibrate import SEARCH_US, Calibrator
from nire.types import Calibration, ContentWindow, EventBatch, Frame, Gap
from stream.windows.assembler import WindowAssembler
from stream.windows.cut import Cut

SETTINGS = {"width": 128, "height": 96, "seconds": 0.5, "live": False, "seed": 3}


@cache
def windows(positive: float, negative: float) -> tuple[ContentWindow, ...]:
    """Pairs of an ideal camera with given thresholds, and events around them for the search."""
    sensor = {"threshold_positive": positive, "threshold_negative": negative}
    with open_source(**SETTINGS, noise="ideal", sensor=sensor) as camera:
        assembler = WindowAssembler(camera.info.geometry, Cut("pair", margin_us=0))
        assembler.guard((SEARCH_US, SEARCH_US))
        found: list[ContentWindow] = []
        for packet in camera:
            assembler.push(packet)
            found.extend(assembler.complete())
    return tuple(found)


def delayed(window: ContentWindow, delay_us: int) -> EventBatch:
    return replace(window.events, t_us=window.events.t_us + delay_us)


@pytest.mark.parametrize(("positive", "negative"), [(0.15, 0.15), (0.3, 0.3), (0.2, 0.3)])
def test_thresholds_of_an_ideal_camera_are_found(positive: float, negative: float) -> None:
    calibrator = Calibrator(time_offset_us=0.0)
    for window in windows(positive, negative):
        calibrator.observe(window.frames, window.events)
    assert calibrator.current.threshold_positive == pytest.approx(positive, rel=0.15)
    assert calibrator.current.threshold_negative == pytest.approx(negative, rel=0.15)


def estimated_offset(delay_us: int) -> float:
    calibrator = Calibrator()
    for window in windows(0.2, 0.2)[:5]:
        calibrator.observe(window.frames, delayed(window, delay_us))
    return calibrator.current.time_offset_us


def test_time_offset_follows_the_delay_of_the_events() -> None:
    assert estimated_offset(4500) - estimated_offset(2000) == pytest.approx(2500, abs=200)


def test_time_offset_of_one_clock_is_none() -> None:
    # An event comes only when the change is complete; its ramp knows that.
    assert abs(estimated_offset(0)) <= 1000


@pytest.mark.parametrize("delay_us", [-4000, 4500])
def test_time_offset_is_the_delay_but_for_what_no_event_tells(delay_us: int) -> None:
    # What changes by less than a threshold before the second frame has no event.
    assert 0 <= estimated_offset(delay_us) - delay_us <= 2000


def test_pairs_that_miss_little_teach_the_offset_and_those_that_miss_more_do_not() -> None:
    little, more = Calibrator(), Calibrator()
    for window in windows(0.2, 0.2)[:5]:
        late = replace(window, events=delayed(window, 4500))
        little.observe(window.frames, *with_hole(late, 0.02))
        more.observe(window.frames, *with_hole(late, 0.1))
    assert little.current.time_offset_us == pytest.approx(estimated_offset(4500), abs=500)
    assert more.current.time_offset_us == 0
    assert not more.knows_offset


def test_of_many_events_some_rows_tell_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    whole_us = estimated_offset(4500)
    monkeypatch.setattr(calibrate, "_MOST_EVENTS", 5000)
    assert estimated_offset(4500) == pytest.approx(whole_us, abs=500)


def test_first_pair_already_calibrates() -> None:
    calibrator = Calibrator(time_offset_us=0.0)
    calibrator.observe(windows(0.3, 0.3)[0].frames, windows(0.3, 0.3)[0].events)
    assert calibrator.current.threshold_positive == pytest.approx(0.3, rel=0.25)


def test_fixed_values_stay_fixed() -> None:
    calibrator = Calibrator(thresholds=(0.4, 0.5), time_offset_us=123.0)
    for window in windows(0.2, 0.2):
        calibrator.observe(window.frames, window.events)
    current = calibrator.current
    assert (current.threshold_positive, current.threshold_negative, current.time_offset_us) == (0.4, 0.5, 123.0)


def misfit_of(pairs: Sequence[tuple[Frame, Frame, EventBatch]]) -> float | None:
    calibrator = Calibrator(thresholds=(0.2, 0.2), time_offset_us=0.0)
    for first, second, events in pairs:
        calibrator.observe((first, second), events)
    return calibrator.current.misfit


@pytest.mark.parametrize("thresholds", [(0.2, 0.2), (0.3, 0.3), (0.2, 0.3)])
def test_events_of_an_ideal_camera_fit_its_frames(thresholds: tuple[float, float]) -> None:
    calibrator = Calibrator()
    assert calibrator.current.misfit is None
    for window in windows(*thresholds):
        calibrator.observe(window.frames, window.events)
    assert calibrator.current.misfit is not None
    assert calibrator.current.misfit <= 0.05


def test_events_that_are_not_those_of_the_frames_misfit() -> None:
    mirrored = [(*w.frames, replace(w.events, x=127 - w.events.x)) for w in windows(0.2, 0.2)[:4]]
    found = misfit_of(mirrored)
    assert found is not None
    assert found > 0.5


def test_neither_gain_nor_noise_nor_hot_pixels_are_a_misfit() -> None:
    """Of a camera that sets its gain itself: one pixel fires all the time, others do once."""
    rng = np.random.default_rng(5)
    pairs = []
    for window in windows(0.2, 0.2)[:6]:
        noisy = [frame.pixels + rng.normal(0, 4, frame.pixels.shape) for frame in window.frames]
        noisy[1] *= 0.8
        frames = (
            replace(frame, pixels=np.rint(pixels.clip(0, 255)).astype(np.uint8))
            for frame, pixels in zip(window.frames, noisy, strict=True)
        )
        events = window.events
        x, y = (np.concatenate([np.full(1000, 60), rng.integers(0, size, 200)]) for size in (128, 96))
        t_us = rng.integers(window.t0_us, window.t1_us, 1200)
        t_us, order = (
            np.concatenate([events.t_us, t_us]),
            np.argsort(np.concatenate([events.t_us, t_us]), kind="stable"),
        )
        merged = replace(
            events,
            t_us=t_us[order],
            x=np.concatenate([events.x, x.astype(np.uint16)])[order],
            y=np.concatenate([events.y, y.astype(np.uint16)])[order],
            p=np.concatenate([events.p, np.ones(1200, np.uint8)])[order],
        )
        pairs.append((*frames, merged))
    found = misfit_of(pairs)
    assert found is not None
    assert found <= 0.1


@pytest.mark.parametrize("threshold", [0.2, 0.06])
def test_noise_of_a_scene_that_stands_still_is_no_misfit(threshold: float) -> None:
    rng = np.random.default_rng(1)
    calibrator = Calibrator(thresholds=(threshold, threshold), time_offset_us=0.0)
    right = np.tile(windows(0.2, 0.2)[0].frames[0].pixels, (4, 4, 1))
    for window in windows(0.2, 0.2)[:8]:
        frames = (
            replace(frame, pixels=np.rint((right + rng.normal(0, 4, right.shape)).clip(0, 255)).astype(np.uint8))
            for frame in window.frames
        )
        x, y = (rng.integers(0, 4 * size, 2000).astype(np.uint16) for size in (128, 96))
        t_us = np.sort(rng.integers(window.t0_us, window.t1_us, 2000))
        events = replace(window.events, t_us=t_us, x=x, y=y, p=rng.integers(0, 2, 2000).astype(np.uint8))
        calibrator.observe(tuple(frames), events)
    assert calibrator.current.misfit is None


def test_misfit_is_not_known_where_nothing_changed_and_where_events_are_missing() -> None:
    window = windows(0.2, 0.2)[0]
    assert misfit_of([(window.frames[0], replace(window.frames[0], index=1), window.events)]) is None
    calibrator = Calibrator(thresholds=(0.2, 0.2), time_offset_us=0.0)
    for each in windows(0.2, 0.2)[:4]:
        calibrator.observe(each.frames, *with_hole(each, 0.3))
    assert calibrator.current.misfit is None


def test_static_scene_teaches_nothing() -> None:
    window = windows(0.2, 0.2)[0]
    calibrator = Calibrator()
    still = (window.frames[0], replace(window.frames[0], index=1))
    calibrator.observe(still, EventBatch.empty(window.t1_us))
    assert calibrator.current.threshold_positive == Calibrator().current.threshold_positive
    assert calibrator.learning


def with_hole(window: ContentWindow, share: float) -> tuple[EventBatch, tuple[Gap, ...]]:
    """Take out the events of a share of a pair's span, in its middle."""
    first, second = window.frames
    span_us, mid_us = second.last_us - first.first_us, (first.first_us + second.last_us) / 2
    gap = Gap(round(mid_us - share * span_us / 2), round(mid_us + share * span_us / 2), "lost")
    kept = (window.events.t_us < gap.t0_us) | (window.events.t_us >= gap.t1_us)
    return window.events.part(kept), (gap,)


def threshold_of(pairs: Sequence[tuple[ContentWindow, float]]) -> float:
    """Learn from pairs of which shares are missing."""
    calibrator = Calibrator(time_offset_us=0.0)
    for window, share in pairs:
        calibrator.observe(window.frames, *with_hole(window, share))
    return calibrator.current.threshold_positive


@pytest.mark.parametrize("whole_first", [True, False])
def test_pairs_with_long_gaps_change_nothing_where_a_whole_one_teaches(whole_first: bool) -> None:
    whole, *others = windows(0.3, 0.3)[1:5]
    holed = [(window, 0.6) for window in others]
    pairs = [(whole, 0.0), *holed] if whole_first else [*holed, (whole, 0.0)]
    assert threshold_of(pairs) == pytest.approx(threshold_of([(whole, 0.0)]), rel=0.02)
    assert threshold_of(holed) > 1.2 * threshold_of([(whole, 0.0)])


def test_pairs_with_gaps_teach_where_there_are_no_others() -> None:
    pairs = windows(0.3, 0.3)[:4]
    assert threshold_of([(window, 0.1) for window in pairs]) == pytest.approx(0.3, rel=0.2)


def test_pair_without_any_event_between_its_frames_teaches_no_thresholds() -> None:
    window = windows(0.3, 0.3)[0]
    calibrator = Calibrator(time_offset_us=0.0)
    late = replace(window.events, t_us=window.events.t_us + 10 * SEARCH_US, watermark_us=10**9)
    calibrator.observe(window.frames, late)
    assert calibrator.current.threshold_positive == Calibrator().current.threshold_positive


@pytest.mark.parametrize(("x", "y"), [(50, 40), (0, 0), (127, 50), (60, 95)])
def test_pixel_that_fires_all_the_time_is_masked_and_its_neighbours_are_not(x: int, y: int) -> None:
    assert hot_pixels_where([(x, y)]) == [[y, x]]


def test_two_hot_pixels_side_by_side_are_both_masked() -> None:
    assert hot_pixels_where([(50, 40), (50, 41)]) == [[40, 50], [41, 50]]


def hot_pixels_where(firing: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Have pixels (x, y) fire all the time, and find those that are masked, (y, x) each."""
    calibrator = Calibrator(time_offset_us=0.0)
    for window in windows(0.2, 0.2)[:4]:
        seen = window
        for x, y in firing:
            seen = replace(seen, events=with_hot_pixel(seen, x=x, y=y))
        calibrator.observe(seen.frames, seen.events)
    hot = calibrator.current.hot_pixels
    assert hot is not None
    return [[int(y), int(x)] for y, x in np.argwhere(hot)]


def with_hot_pixel(window: ContentWindow, *, x: int, y: int) -> EventBatch:
    t_us = np.arange(window.t0_us, window.t1_us, 100, dtype=np.int64)
    events = window.events
    joined = np.concatenate([events.t_us, t_us])
    order = np.argsort(joined, kind="stable")
    count = len(t_us)
    return EventBatch(
        joined[order],
        np.concatenate([events.x, np.full(count, x, np.uint16)])[order],
        np.concatenate([events.y, np.full(count, y, np.uint16)])[order],
        np.concatenate([events.p, np.ones(count, np.uint8)])[order],
        window.t1_us,
    )


def test_learning_ends_and_then_every_sixteenth_pair_is_wanted() -> None:
    calibrator = Calibrator(time_offset_us=0.0)
    pairs: Iterator[ContentWindow] = iter(windows(0.2, 0.2) * 8)
    wanted = []
    for window in pairs:
        wanted.append(calibrator.wants())
        if wanted[-1]:
            calibrator.observe(window.frames, window.events)
    assert all(wanted[:8])
    assert sum(wanted[8:]) == len(wanted) // 16


def test_guard_shrinks_to_the_offset_once_learned() -> None:
    calibrator = Calibrator()
    assert calibrator.guard_us == (SEARCH_US, SEARCH_US)
    for window in (windows(0.2, 0.2) * 2)[:9]:
        calibrator.observe(window.frames, delayed(window, 2000))
    assert calibrator.guard_us == (0, calibrator.current.time_offset_us)
    assert calibrator.guard_us[1] > 1000
    assert Calibrator(time_offset_us=-700.0).guard_us == (700, 0)


def test_two_runs_over_the_same_pairs_agree_exactly() -> None:
    results = []
    for _ in range(2):
        calibrator = Calibrator()
        for window in windows(0.2, 0.3):
            calibrator.observe(window.frames, window.events)
        current = calibrator.current
        results.append((current.threshold_positive, current.threshold_negative, current.time_offset_us))
    assert results[0] == results[1]


def test_rolling_frames_calibrate_like_global_ones() -> None:
    sensor = {"threshold_positive": 0.25, "threshold_negative": 0.25}
    settings = {**SETTINGS, "row_delay_us": 60, "noise": "ideal", "sensor": sensor}
    calibrator = Calibrator(time_offset_us=0.0)
    with open_source(**settings) as camera:
        assembler = WindowAssembler(camera.info.geometry, Cut("pair", margin_us=0))
        for packet in camera:
            assembler.push(packet)
            for window in assembler.complete():
                assert isinstance(window.frames[0], Frame)
                calibrator.observe(window.frames, window.events)
    assert calibrator.current.threshold_positive == pytest.approx(0.25, rel=0.2)


@pytest.mark.parametrize("delay_us", [0, 4500])
def test_large_sensor_is_learned_from_some_of_its_rows(delay_us: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def learned() -> Calibration:
        calibrator = Calibrator()
        for window in windows(0.2, 0.3)[:6]:
            calibrator.observe(window.frames, delayed(window, delay_us))
        return calibrator.current

    by_all = learned()
    monkeypatch.setattr(calibrate, "_MOST_PIXELS", 128 * 96 // 4)
    by_some = learned()
    assert by_some.threshold_positive == pytest.approx(by_all.threshold_positive, rel=0.05)
    assert by_some.threshold_negative == pytest.approx(by_all.threshold_negative, rel=0.05)
    assert by_some.time_offset_us == pytest.approx(by_all.time_offset_us, abs=500)
    assert by_some != by_all


def test_drift_is_followed_as_fast_by_a_quarter_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_MOST_PIXELS", 128 * 96)
    heights = []

    def seen(frames: Sequence[Frame], *of: object, **kept: int) -> object:
        fewer = shortened(frames, *of, **kept)
        heights.append(fewer[0][0].pixels.shape[0])
        return fewer

    shortened = calibrate._with_fewer_rows
    monkeypatch.setattr(calibrate, "_with_fewer_rows", seen)
    by_all: list[float] = []
    by_some: list[float] = []
    for found, part in ((by_all, 1), (by_some, 4)):
        monkeypatch.setattr(calibrate, "_FOLLOWED", part)
        calibrator = Calibrator(time_offset_us=0.0)
        for window in windows(0.25, 0.25)[:8]:
            calibrator.observe(window.frames, window.events)
        assert not calibrator.learning
        for window in windows(0.3, 0.35)[:2] * 8:
            calibrator.observe(window.frames, window.events)
            found.append(calibrator.current.threshold_negative)
    assert heights == [96] * 24 + [96] * 8 + [24] * 16
    # As fast, though of a few rows: from 0.25 to 0.35.
    np.testing.assert_allclose(by_some, by_all, rtol=0.06)
    assert by_all[-1] > 0.31


def test_rows_of_a_large_sensor_that_rolls_keep_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_MOST_PIXELS", 128 * 96 // 4)
    window = windows(0.2, 0.2)[0]
    frames = [replace(frame, row_delay_us=60) for frame in window.frames]
    for which in range(5):
        fewer, seen = calibrate._with_fewer_rows(frames, window.events, which)
        for few, whole in zip(fewer, frames, strict=True):
            np.testing.assert_array_equal(few.pixels, whole.pixels[which % 4 :: 4])
            np.testing.assert_array_equal(few.shutter.t_a_us, whole.shutter.t_a_us[which % 4 :: 4])
            np.testing.assert_array_equal(few.shutter.t_b_us, whole.shutter.t_b_us[which % 4 :: 4])
        assert len(seen) == np.count_nonzero(window.events.y % 4 == which % 4)
        assert seen.y.max() < 96 // 4


def test_hot_pixel_of_a_large_sensor_is_found_in_any_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_MOST_PIXELS", 128 * 96 // 4)
    for x, y in ((50, 40), (127, 95), (0, 3)):
        assert hot_pixels_where([(x, y)]) == [[y, x]]
