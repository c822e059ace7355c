"""The synthetic camera: the same packets each time, an exact truth, and real time when live."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from drivers.cameras.synthetic import CLOCK_START_US, SyntheticCamera, open_source, scene_of
from nire.errors import ConfigError
from nire.shutter import Shutter
from nire.types import EventBatch, Frame
from tests.drivers.packets.made import column_digests

Make = Callable[..., SyntheticCamera]


def test_equal_settings_give_equal_packets(small_camera: Make) -> None:
    assert column_digests(small_camera()) == column_digests(small_camera())
    assert column_digests(small_camera()) != column_digests(small_camera(seed=4))


def test_pacing_does_not_change_the_packets(small_camera: Make) -> None:
    assert column_digests(small_camera(live=True, seconds=0.1)) == column_digests(small_camera(seconds=0.1))


def test_frames_keep_their_rate_and_exposure(small_camera: Make) -> None:
    frames = [p for p in small_camera(frame_rate_hz=50, exposure_us=8_000) if isinstance(p, Frame)]
    assert [f.index for f in frames] == list(range(10))
    assert {f.exposure_end_us - f.exposure_start_us for f in frames} == {8_000}
    assert {int(d) for d in np.diff([f.exposure_start_us for f in frames])} == {20_000}
    assert frames[0].exposure_start_us == CLOCK_START_US


def test_rolling_frames_come_after_their_last_row(small_camera: Make) -> None:
    watermark = 0
    for packet in small_camera(row_delay_us=100.0):
        if isinstance(packet, EventBatch):
            watermark = packet.watermark_us
        else:
            assert isinstance(packet, Frame)
            assert packet.row_delay_us == pytest.approx(100.0)
            assert packet.last_us <= watermark


@pytest.mark.parametrize("row_delay_us", [0.0, 20.0])
def test_ideal_frames_are_the_truth_of_their_own_shutter(small_camera: Make, row_delay_us: float) -> None:
    camera = small_camera(noise="ideal", step_us=500, row_delay_us=row_delay_us)
    truth = scene_of(width=64, height=48, seed=3, seconds=0.2, live=False)
    for frame in camera:
        if isinstance(frame, Frame):
            error = frame.pixels[..., 0].astype(float) - truth.expose(frame.shutter) * 255
            assert np.sqrt(np.mean(error**2)) < 0.6


def test_demo_scene_is_blurred_by_motion_but_not_destroyed() -> None:
    truth, errors = scene_of(seconds=0.4, live=False), []
    for frame in open_source(seconds=0.4, live=False):
        if isinstance(frame, Frame):
            later = truth.expose(Shutter.instant(frame.mid_us + 10_000, 260))
            errors.append(float(np.mean((frame.pixels[..., 0] / 255 - later) ** 2)))
    assert 20 < -10 * np.log10(np.mean(errors)) < 30


def test_camera_without_frames_or_without_events_says_so(small_camera: Make) -> None:
    assert not small_camera(frame_rate_hz=0).info.has_frames
    assert not any(isinstance(p, Frame) for p in small_camera(frame_rate_hz=0))
    batches = [p for p in small_camera(events=False) if isinstance(p, EventBatch)]
    assert not sum(map(len, batches))
    assert batches[-1].watermark_us == CLOCK_START_US + 200_000


def test_live_camera_stamps_packets_when_they_are_due(small_camera: Make) -> None:
    began_ns = time.monotonic_ns()
    for packet in small_camera(live=True, seconds=0.1):
        known_us = packet.watermark_us if isinstance(packet, EventBatch) else packet.last_us
        assert packet.received_ns >= began_ns + (known_us - CLOCK_START_US) * 1000 - 1_000_000


def test_closing_ends_a_live_camera_that_has_no_end(small_camera: Make) -> None:
    count = 0
    with small_camera(live=True, seconds=None) as camera:
        for _ in camera:
            count += 1
            if count == 10:
                camera.__exit__(None, None, None)
    assert count == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widht": 3}, "no setting 'widht'; did you mean 'width'"),
        ({"exposure_us": 50_000}, "exposure_us = 50000.0, expected 0 to the frame period of 40000"),
        ({"scene": "moon"}, "there is no scene 'moon'"),
        ({"noise": "loud"}, "noise = 'loud'"),
        ({"sensor": {"threshold": 1}}, "'sensor' may set threshold_positive"),
        ({"sensor": {"leak_hz": -1}}, "leak_hz = -1"),
        ({"width": 8}, "at least 16 x 16"),
        ({"width": "wide"}, "width = 'wide', expected a whole number"),
        ({"exposure_us": "long"}, "expected a number"),
        ({"seed": -1}, "seed = -1, expected 0 or more"),
    ],
)
def test_wrong_setting_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(**settings)
