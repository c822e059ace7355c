"""Samples and tasks: shapes, meanings, and that a number always gives the same batch."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from nire.training.pictures import Bank
from nire.training.samples import Sample, Samples, Window, _shared_out, cut_into_segments, make_sample, see
from nire.training.sequences import CROP_FRAMES, find_sequences
from nire.training.settings import TASKS, DataSettings
from nire.training.tasks import Shutters, draw_shutters
from tests.nire.training.rooms import CROP

DATA = DataSettings(crop_px=CROP, batch=3, queries=2, layers=1, noise="mixed")
M, B = 2, 3


def is_finite(sample: Sample) -> bool:
    values = (getattr(sample, field.name) for field in fields(sample))
    return all(bool(torch.isfinite(value).all()) for value in values if isinstance(value, Tensor))


def samples(bank: Bank, data: DataSettings = DATA, seed: int = 9) -> Samples:
    return Samples(bank, data, cut=cut_into_segments(M, B), seed=seed)


def equal(first: Sample, second: Sample) -> bool:
    pairs = ((getattr(first, f.name), getattr(second, f.name)) for f in fields(Sample))
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_gives_what_the_network_takes(bank: Bank, task: str) -> None:
    for index in range(4):
        sample = samples(bank).at(index, task)
        count = sample.images.shape[1]
        assert count in ({0} if task == "events_only" else {1, 2})
        assert sample.images.shape == (3, count, 1, CROP, CROP)
        assert sample.voxels.shape == (3, M, B, CROP, CROP)
        assert sample.image_ranges.shape == (3, count, CROP, 2)
        assert sample.segment_ranges.shape == (3, M, 2)
        assert sample.observed.shape == (3, M, B)
        assert sample.shutters.shape == (3, 2, CROP, 2)
        assert sample.re_exposed.shape == (3, 2, max(count, 1), 2, CROP, CROP)
        assert sample.target.shape == (3, 2, 1, CROP, CROP)
        assert is_finite(sample)
        for values, most in ((sample.images, 1.0), (sample.target, 1.0), (sample.re_exposed[:, :, :, 0], 1.5)):
            assert not values.numel() or (values.min() >= 0 and values.max() <= most)
        for ranges in (sample.image_ranges, sample.shutters):
            assert (ranges[..., 0] <= ranges[..., 1]).all()


@pytest.mark.parametrize("task", TASKS)
def test_shutters_lie_within_the_window_and_frames_are_in_order(task: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        drawn = draw_shutters(task, rng, batch=8, queries=4, height=10)
        for times in (drawn.frames, drawn.asked):
            assert times.dtype == np.float32
            assert not times.size or (times.min() >= 0 and times.max() <= 1)
        if drawn.frames.shape[1] == 2:
            assert (drawn.frames[:, 0].mean((1, 2)) < drawn.frames[:, 1].mean((1, 2))).all()


def test_live_edge_is_after_the_last_frame() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = draw_shutters("live_edge", rng, batch=8, queries=4, height=10)
        assert (drawn.asked.min((1, 2, 3)) >= drawn.frames.max((1, 2, 3)) - 1e-6).all()


def test_unroll_asks_for_one_instant_of_all_rows_of_rolling_frames() -> None:
    drawn = draw_shutters("unroll", np.random.default_rng(0), batch=8, queries=4, height=10)
    assert (np.ptp(drawn.asked[..., 0], axis=2) == 0).all()
    assert (np.ptp(drawn.frames[..., 0], axis=2) > 0.1).all()


def test_longer_re_shutter_is_longer_than_the_frames() -> None:
    drawn = draw_shutters("reshutter_long", np.random.default_rng(0), batch=64, queries=4, height=10)
    asked, own = ((times[..., 1] - times[..., 0]).mean() for times in (drawn.asked, drawn.frames))
    assert asked > 2 * own


def test_number_gives_the_same_batch_in_any_order(bank: Bank) -> None:
    first, second = samples(bank), samples(bank)
    forwards = [first.at(k) for k in range(4)]
    backwards = [second.at(k) for k in reversed(range(4))][::-1]
    assert all(equal(a, b) for a, b in zip(forwards, backwards, strict=True))


def test_numbers_and_seeds_give_different_batches(bank: Bank) -> None:
    one = samples(bank).at(0, "deblur")
    assert not torch.equal(one.target, samples(bank).at(1, "deblur").target)
    assert not torch.equal(one.target, samples(bank, seed=10).at(0, "deblur").target)


def test_footage_is_cut_into_windows_of_light(bank: Bank, tmp_path: Path) -> None:
    for k in range(20):
        cv2.imwrite(str(tmp_path / f"{k:03d}.png"), np.full((30, 40), 5 + 10 * k, np.uint8))
    footage = tuple(find_sequences(tmp_path, least=CROP_FRAMES[1]))
    data = replace(DATA, footage_share=1.0)
    made = Samples(bank, data, cut=cut_into_segments(M, B), seed=9, footage=footage)
    light = made._scenes(0).light
    assert light.shape == (3, M * B * data.steps_per_bin + 1, CROP, CROP)
    # Gray frames that only become brighter, linear in between.
    assert (light.diff(dim=1) > 0).all()
    assert float(light.std(dim=(2, 3)).max()) < 1e-5
    assert is_finite(made.at(0))


def test_lost_spans_hold_no_events_and_are_marked(bank: Bank) -> None:
    sample = samples(bank, replace(DATA, drop_share=1.0, batch=16)).at(0, "sharp_vfi")
    lost = sample.observed == 0
    assert 0.02 < lost.float().mean() < 0.9
    assert not sample.voxels[lost].any()
    assert sample.voxels[~lost].any()


def test_double_integral_is_nearer_to_the_truth_than_the_captured_frame(bank: Bank) -> None:
    data = replace(DATA, noise="ideal", threshold_error=0.0, drop_share=0.0, batch=12)
    window = samples(bank, data).at(0, "live_edge")
    before, after = (
        (images - window.target).square().mean()
        for images in (window.images[:, -1:].expand_as(window.target), window.re_exposed[:, :, -1, :1])
    )
    assert after < 0.5 * before


def test_clocks_lie_apart_within_a_margin_of_light(bank: Bank) -> None:
    made = samples(bank, replace(DATA, noise="ideal", drop_share=0.0, wide_sensors=True))
    scenes = made._scenes(0)
    steps, margin = M * B * DATA.steps_per_bin, scenes.margin
    assert scenes.steps == steps
    assert scenes.light.shape[1] == steps + 2 * margin + 1
    assert margin == math.ceil(0.1 * steps)
    window, _ = made.window(0, "sharp_vfi")
    shutters = Shutters(window.frame_shutters.numpy(), window.shutters.numpy())

    def seen(offset: float) -> Window:
        sensors = replace(window.sensors, offset_us=offset * scenes.window_us)
        observed = np.ones((3, M * B), np.float32)
        return see(scenes, shutters, sensors, observed=observed, generator=torch.Generator().manual_seed(1))

    # Three steps off: the light of three steps later, to the window's ends, and the same events.
    shifted = replace(scenes, light=torch.roll(scenes.light, -3, 1))
    apart, away = seen(3 / steps), see(
        shifted, shutters, seen(0.0).sensors,
        observed=np.ones((3, M * B), np.float32), generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    torch.testing.assert_close(apart.target, away.target, atol=1e-5, rtol=0)
    assert torch.equal(apart.counts, seen(0.0).counts)
    assert apart.counts.shape[1] == steps


def test_delay_of_slow_pixels_is_none_of_the_clocks(bank: Bank) -> None:
    wide = replace(DATA, noise="realistic", wide_sensors=True, drop_share=0.0)
    made = samples(bank, wide)
    for index in range(6):
        window, _ = made.window(index, "sharp_vfi")
        scenes = made._scenes(index // wide.reuse)
        assert (window.sensors.offset_us.abs() <= 0.1001 * scenes.window_us).all()
    found = [samples(bank, wide).window(index, "sharp_vfi")[0].sensors for index in range(40)]
    # Clocks alone would be off to both sides alike.
    assert torch.cat([sensors.offset_us for sensors in found]).median() < -100


def test_events_alone_are_late_against_nothing(bank: Bank) -> None:
    window, _ = samples(bank, replace(DATA, noise="realistic")).window(0, "events_only")
    assert not window.sensors.offset_us.any()


def test_network_gets_believed_thresholds_not_the_true_ones(bank: Bank) -> None:
    right = samples(bank, replace(DATA, threshold_error=0.0)).at(2, "deblur")
    wrong = samples(bank, replace(DATA, threshold_error=0.3)).at(2, "deblur")
    assert torch.equal(right.target, wrong.target)
    assert torch.equal(right.voxels != 0, wrong.voxels != 0)
    assert not torch.allclose(right.voxels, wrong.voxels)


def test_bins_that_cut_steps_share_them_out(bank: Bank) -> None:
    change = torch.ones(1, 10, 2, 2)
    torch.testing.assert_close(_shared_out(change, 4), torch.full((1, 4, 2, 2), 2.5))
    torch.testing.assert_close(_shared_out(change, 5), torch.full((1, 5, 2, 2), 2.0))


def test_all_events_of_a_window_reach_the_voxels(bank: Bank) -> None:
    window, task = samples(bank, replace(DATA, drop_share=0.0)).window(0)
    ones = torch.ones(3)
    sample = make_sample(window, ones, ones, segments=M, bins=B, task=task, index=0)
    signed = window.counts[:, :, 1].float() - window.counts[:, :, 0].float()
    torch.testing.assert_close(sample.voxels.sum((1, 2)), signed.sum(1))
