"""Rolling content of the network: each frame and each segment is encoded once, and no image changes by it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from drivers.cameras.synthetic import open_source
from drivers.detect import open_recording
from drivers.source import SourceInfo
from nire.backends import neural
from nire.engines import Engine, Job
from nire.engines.eager import EagerEngine
from nire.network import weights
from nire.network.reexposure import ReExposureNetwork
from nire.rolling import Forecast
from nire.shutter import Shutter
from nire.types import Calibration, ContentWindow, EventBatch, Frame, Gap, Geometry, Packet, Query
from stream.session.ahead import Ahead
from stream.windows.assembler import WindowAssembler
from stream.windows.cut import Cut
from tests.nire.windows import random_events, random_frame

GEOMETRY = Geometry(40, 36)
PERIOD_US = 40_000
KNOWN = Calibration(0.2, 0.3)


class Counting(EagerEngine):
    """Eager, and says what it was asked for."""

    def __init__(self, network: ReExposureNetwork, job: Job) -> None:
        super().__init__(network, job)
        self.calls: list[tuple[str, int]] = []

    def encode_images(self, images: Tensor) -> Any:
        self.calls.append(("image", images.shape[1]))
        return super().encode_images(images)

    def encode_segments(self, voxels: Tensor, observed: Tensor) -> Any:
        self.calls.append(("segments", voxels.shape[1]))
        return super().encode_segments(voxels, observed)


class WholeOnly:
    """An engine that cannot build in parts."""

    name = "whole"

    def __init__(self, network: ReExposureNetwork, job: Job) -> None:
        self._eager = EagerEngine(network, job)
        self.build, self.expose = self._eager.build, self._eager.expose


@pytest.fixture(scope="module")
def network() -> ReExposureNetwork:
    """The shipped weights."""
    path = weights.shipped("paper_nano")
    assert path is not None
    return weights.load(path)


def backend_of(
    network: ReExposureNetwork, kind: type[Any] = Counting, geometry: Geometry = GEOMETRY
) -> tuple[neural.NeuralReconstructor, Any]:
    config = network.config
    job = Job(*config.padded(geometry.height, geometry.width), (2,), torch.device("cpu"), "fp32")
    engine: Engine = kind(network, job)
    return neural.NeuralReconstructor(geometry, engine, config, job=job, bin_us=500), engine


def part_of(events: EventBatch, t0_us: int, t1_us: int) -> EventBatch:
    low, high = np.searchsorted(events.t_us, (t0_us, t1_us))
    return EventBatch(*(getattr(events, name)[low:high] for name in ("t_us", "x", "y", "p")), t1_us)


def stream(count: int, periods_us: Sequence[int] = (), **changes: Any) -> list[ContentWindow]:
    """Make `pair` windows of a steady camera, or of one with the given periods."""
    starts_us = np.cumsum([100_300, *(periods_us or [PERIOD_US] * count)]).tolist()
    frames = [random_frame(k, k, t, t + 20_000, geometry=GEOMETRY) for k, t in enumerate(starts_us)]
    events = random_events(2, 3000 * (count + 1), 90_000, starts_us[-1] + 30_000, GEOMETRY)
    windows = []
    for index, pair in enumerate(itertools.pairwise(frames)):
        t0_us, t1_us = int(pair[0].first_us) - 5000, int(pair[1].last_us)
        made = ContentWindow(index, t0_us, t1_us, pair, part_of(events, t0_us, t1_us), GEOMETRY, calibration=KNOWN)
        windows.append(replace(made, **changes))
    return windows


def arriving(window: ContentWindow, step_us: int = 4000) -> Iterator[ContentWindow]:
    """Let a window arrive in pieces, with the first frame from its end on."""
    first = int(window.frames[0].last_us) + 1
    for end_us in range(first, window.t1_us, step_us):
        yield replace(window, t1_us=end_us, frames=window.frames[:1], events=part_of(window.events, 0, end_us))


def images(backend: neural.NeuralReconstructor, window: ContentWindow) -> np.ndarray:
    content, (first, second) = backend.build(window), window.frames
    height = window.geometry.height
    shutters = [Shutter.instant(first.mid_us + 9000, height), Shutter.flat(first.last_us, second.mid_us, height)]
    return np.array(backend.expose(content, [Query(window.film, shutter, "test") for shutter in shutters]))


def test_steady_stream_encodes_each_frame_and_each_segment_once(network: ReExposureNetwork) -> None:
    backend, engine = backend_of(network)
    for index, window in enumerate(stream(5)):
        for step in arriving(window):
            backend.ahead(step)
        before = list(engine.calls)
        found = images(backend, window)
        fresh, _ = backend_of(network)
        np.testing.assert_array_equal(found, images(fresh, window))
        if index >= 2:  # two windows of one length speak for a third
            # Only the newest frame, and the last segment, which its last events complete.
            assert engine.calls[len(before) :] == [("image", 1), ("segments", 1)]
            assert before.count(("segments", 1)) == 3
            assert ("image", 1) not in before  # it was the second frame of the window before
        engine.calls.clear()


def test_frame_period_that_changes_costs_the_segments_and_no_image_changes(network: ReExposureNetwork) -> None:
    backend, engine = backend_of(network)
    for window in stream(6, [40_000, 40_000, 40_000, 47_300, 33_000, 40_250]):
        for step in arriving(window):
            backend.ahead(step)
        engine.calls.clear()
        found = images(backend, window)
        if window.index in (3, 4):
            assert engine.calls == [("image", 1), *[("segments", 1)] * 4]
        fresh, _ = backend_of(network)
        np.testing.assert_array_equal(found, images(fresh, window))


def test_gap_that_becomes_known_late_is_told_to_the_network(network: ReExposureNetwork) -> None:
    backend, engine = backend_of(network)
    for window in stream(4):
        gap = (Gap(window.t0_us + 16_000, window.t0_us + 24_000, "told late"),)
        for step in arriving(window):
            backend.ahead(step)
        engine.calls.clear()
        found = images(backend, replace(window, gaps=gap))
        fresh, _ = backend_of(network)
        np.testing.assert_array_equal(found, images(fresh, replace(window, gaps=gap)))
    # Light does not rise across missing events, so nothing that was begun without knowing of them serves.
    assert engine.calls == [("image", 1), *[("segments", 1)] * 4]


def test_calibration_that_changes_on_the_way_begins_anew(network: ReExposureNetwork) -> None:
    backend, engine = backend_of(network)
    hot = np.random.default_rng(3).random((GEOMETRY.height, GEOMETRY.width)) < 0.1
    for window in stream(4):
        for step in arriving(window):
            backend.ahead(step)
        engine.calls.clear()
        other = replace(window, calibration=Calibration(0.25, 0.3, 130.0, hot))
        fresh, _ = backend_of(network)
        np.testing.assert_array_equal(images(backend, other), images(fresh, other))
        assert engine.calls == [("image", 1), *[("segments", 1)] * 4]


def test_present_content_stays_while_the_next_is_begun(network: ReExposureNetwork) -> None:
    backend, _ = backend_of(network)
    for window, following in zip(windows := stream(4), windows[1:], strict=False):
        content, query = backend.build(window), Query(window.film, Shutter.instant(window.frames[0].mid_us, 36), "t")
        expected = np.array(backend.expose(content, [query]))
        for step in arriving(following):
            backend.ahead(step)
            np.testing.assert_array_equal(backend.expose(content, [query]), expected)


def test_engine_that_builds_only_whole_windows_gives_the_same_images(network: ReExposureNetwork) -> None:
    whole, _ = backend_of(network, WholeOnly)
    parts, _ = backend_of(network)
    for window in stream(4):
        for step in arriving(window):
            whole.ahead(step)
        np.testing.assert_array_equal(images(whole, window), images(parts, window))


def test_window_that_grows_at_a_live_edge_encodes_its_frame_once(network: ReExposureNetwork) -> None:
    backend, engine = backend_of(network)
    window = stream(1)[0]
    for step in arriving(window):
        backend.build(step)
    assert engine.calls.count(("image", 1)) == 1
    assert engine.calls.count(("segments", 1)) == 4 * sum(1 for _ in arriving(window))


def test_forecast_needs_two_windows_of_one_length_and_none_that_grows() -> None:
    first, second, third = stream(3)
    forecast = Forecast(500)
    assert forecast.end_us(first) is None
    forecast.learn(first)
    assert forecast.end_us(replace(second, t1_us=second.t0_us + 100)) is None
    forecast.learn(second)
    assert forecast.end_us(replace(third, t1_us=third.t0_us + 100)) == third.t1_us
    assert forecast.end_us(replace(third, t1_us=third.t1_us + 1)) is None
    forecast.learn(replace(second, t1_us=second.t1_us + 10))  # the same window, grown
    assert forecast.end_us(replace(third, t1_us=third.t0_us + 100)) is None


# On streams


def assert_stream_rolls(
    network: ReExposureNetwork, packets: Sequence[Packet], geometry: Geometry, *, most: int
) -> None:
    """Work ahead over a stream as the consumer does; compare each window's images with those of a fresh build."""
    backend, engine = backend_of(network, geometry=geometry)
    assembler = WindowAssembler(geometry, Cut("pair", margin_us=5000))
    ahead, late = Ahead(backend), []
    for packet in packets:
        assembler.push(packet)
        for window in assembler.complete():
            window = replace(window, calibration=KNOWN)
            ahead.took(window)
            engine.calls.clear()
            found = images(backend, window)
            late.append(engine.calls.count(("segments", 1)))
            fresh, _ = backend_of(network, geometry=geometry)
            np.testing.assert_array_equal(found, images(fresh, window))
            assembler.release()
        if len(late) == most:
            break
        while (begun := assembler.begun()) is not None and ahead.step(replace(begun, calibration=KNOWN)):
            pass
    assert len(late) == most
    # At most one segment was left for the end, from the third window on.
    assert max(late[2:]) <= 1


def test_network_rolls_over_the_synthetic_camera(network: ReExposureNetwork) -> None:
    with open_source(width=64, height=48, seed=3, seconds=0.35, live=False) as camera:
        info: SourceInfo = camera.info
        assert_stream_rolls(network, [p for p in camera if isinstance(p, Packet)], info.geometry, most=6)


@pytest.mark.real
def test_network_rolls_over_a_real_recording(shared_data: Path, network: ReExposureNetwork) -> None:
    path = shared_data / "recordings" / "emlb_demo-01_davis346.aedat4"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with open_recording(path) as source:
        packets = [packet for packet in source if isinstance(packet, Packet)]
        assert_stream_rolls(network, packets, source.info.geometry, most=6)


def test_captured_frames_are_decoded_once(network: ReExposureNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, _ = backend_of(network)
    decoded: list[Frame] = []
    plain = neural.decode_table
    monkeypatch.setattr(neural, "decode_table", lambda transfer: decoded.append(transfer) or plain(transfer))
    for window in stream(4):
        for step in arriving(window):
            backend.ahead(step)
        backend.build(window)
    assert len(decoded) == 5
