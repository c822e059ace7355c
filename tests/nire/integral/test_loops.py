"""The compiled loops of a CPU give what torch gives, operation by operation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nire.backends import neural
from nire.engines import Job
from nire.engines.eager import create
from nire.integral import event_loops, instant_loops
from nire.integral import loops as plane_loops
from nire.integral.double_integral import DoubleIntegral
from nire.network.config import named
from nire.network.film import Slots, two_slots
from nire.network.pyramid import fold, unfold_planes
from nire.network.reexposure import ReExposureNetwork
from nire.planes import EventPlanes
from nire.shutter import Shutter
from nire.types import Calibration, ContentWindow, EventBatch, Geometry
from nire.voxels import VoxelGrid
from tests.nire.windows import GEOMETRY, random_events, random_frame, window_of

HOT = np.random.default_rng(4).random((GEOMETRY.height, GEOMETRY.width)) < 0.2
CALIBRATIONS = [
    pytest.param(Calibration(0.2, 0.3), id="plain"),
    pytest.param(Calibration(0.2, 0.3, 730.4, HOT), id="hot"),
    pytest.param(Calibration(6.0, 5.0), id="mad"),
]


def turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_loops, "serve", lambda *_, **__: False)


def window(calibration: Calibration, frames: int, row_delay_us: float = 0.0) -> ContentWindow:
    starts = (100_000, 140_000)[:frames]
    captured = tuple(
        random_frame(k, k, start, start + 20_000, row_delay_us=row_delay_us) for k, start in enumerate(starts)
    )
    return window_of(captured, random_events(2, 6000, 80_000, 180_000), calibration=calibration)


def light_of(window: ContentWindow) -> list[torch.Tensor]:
    return [torch.from_numpy(frame.pixels).permute(2, 0, 1).float() for frame in window.frames]


def shutters() -> list[Shutter]:
    height, width = GEOMETRY.height, GEOMETRY.width
    times = np.sort(np.random.default_rng(5).uniform(96_000, 130_000, (2, height, width)), axis=0)
    return [
        Shutter.instant(109_333.0, height),
        Shutter.instant(128_001.5, height),
        Shutter.flat(103_250.0, 127_010.0, height),
        Shutter.rolling(98_000.0, 104_100.0, row_delay_us=700.0, height=height),
        Shutter.rolling(98_000.0, 98_000.0, row_delay_us=700.0, height=height),
        Shutter(times[0], times[1]),
    ]


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("row_delay_us", [0.0, 150.0])
@pytest.mark.parametrize("frames", [1, 2])
def test_double_integral_is_the_same_by_loops_and_by_torch(
    frames: int, row_delay_us: float, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = window(calibration, frames, row_delay_us)
    made = []
    for turn in (None, turned_off):
        if turn is not None:
            turn(monkeypatch)
        integral = DoubleIntegral(500)
        integral.build(seen, light_of(seen))
        made.append([(integral.expose(shutter), *integral.estimates(shutter)) for shutter in shutters()])
    for by_loops, plain in zip(*made, strict=True):
        # Gains reach 300, and sums of them are rounded: light is compared where a picture shows it, to 0.05 level.
        for one, other in zip(by_loops[:2], plain[:2], strict=True):
            torch.testing.assert_close(one.clamp(0, 400), other.clamp(0, 400), rtol=2e-4, atol=5e-2)
        torch.testing.assert_close(by_loops[2], plain[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_light_is_rounded_by_loops_as_by_torch(channels: int) -> None:
    steps = torch.cat([torch.arange(0, 300, 0.125), torch.tensor([1e9, torch.inf])])
    light = steps.repeat(channels, 2, 1) * torch.tensor([1.0, 0.77])[:, None]
    image = torch.zeros(2, len(steps), channels, dtype=torch.uint8)
    instant_loops.encode(image.numpy(), light.numpy(), instant_loops.ROUNDED)
    assert torch.equal(image, light.round().clamp_max(255).permute(1, 2, 0).to(torch.uint8))


def test_slots_are_the_same_by_loops_and_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    estimates = (
        torch.rand(1, 3, 2, 2, 12, 20),
        torch.rand(1, 3, 1, 2, 12, 20),
        torch.rand(1, 3, 2, 2, 12, 24)[..., 2:-2],
    )
    by_loops = [two_slots(values, 2, torch.float32) for values in estimates]
    turned_off(monkeypatch)
    for one, values in zip(by_loops, estimates, strict=True):
        assert_same_slots(one, two_slots(values, 2, torch.float32))


def assert_same_slots(one: Slots, other: Slots) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one.light, other.light, strict=True))
    assert (one.lead is None) == (other.lead is None)
    if one.lead is not None and other.lead is not None:
        assert torch.equal(one.lead, other.lead)
    torch.testing.assert_close(one.planes, other.planes)


def test_planes_are_unfolded_as_they_were_folded() -> None:
    image = torch.rand(3, 1, 8, 12)
    assert torch.equal(unfold_planes(fold(image, 2), 2), image)
    assert torch.equal(unfold_planes(fold(image, 2).contiguous(memory_format=torch.channels_last), 2), image)


def test_change_of_light_is_the_same_by_loops_and_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    calibration, events = Calibration(0.21, 0.33), random_events(3, 900, 0, 40_000)
    grid = VoxelGrid(GEOMETRY, 16, 500)
    grid.begin(grid.edges_of(0, 40_000))
    grid.take(events, calibration)
    padded = (GEOMETRY.height + 3, GEOMETRY.width + 4)
    by_loops = grid.change(calibration, slice(4, 12), padded).clone()
    turned_off(monkeypatch)
    assert torch.equal(grid.change(calibration, slice(4, 12), padded), by_loops)


@pytest.mark.parametrize("channels", [1, 3])
def test_network_is_given_the_same_light_by_loops_and_by_torch(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = Geometry(40, 36, channels)
    torch.manual_seed(1)
    network = ReExposureNetwork(named("nano"))
    job = Job(*network.config.padded(36, 40), (1,), torch.device("cpu"), "fp32")
    frame = random_frame(7, 0, 100_000, 120_000, geometry=geometry)
    encoded = []
    for turn in (None, turned_off):
        if turn is not None:
            turn(monkeypatch)
        backend = neural.NeuralReconstructor(geometry, create(network, job), network.config, job=job, bin_us=500)
        encoded.append(backend._decoded(frame).encoded)
    torch.testing.assert_close(*encoded)
    assert encoded[0].shape[-2:] == (job.height, job.width)
    assert not encoded[0][..., 36:, :].any()


@pytest.mark.parametrize("ignore", [None, HOT])
def test_events_are_counted_the_same_by_loops_and_by_torch(
    ignore: NDArray[np.bool_] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, edges_us = random_events(3, 5000, 0, 40_000), np.array([2_000, 9_000, 9_000, 12_500, 30_000])
    made = []
    for turn in (None, turned_off):
        if turn is not None:
            turn(monkeypatch)
        planes = EventPlanes(GEOMETRY, 500)
        planes.reset_to(edges_us)
        made.append((planes.add(events, ignore), planes.add(events, ignore), planes.counts.clone()))
    assert made[0][:2] == made[1][:2]
    assert made[0][0] == made[0][1] > 2000
    assert torch.equal(made[0][2], made[1][2])
    assert int(made[0][2].sum()) == 2 * made[0][0]


def test_loops_leave_alone_what_they_cannot_serve() -> None:
    plane = torch.zeros(2, 2)
    assert plane_loops.serve(plane, plane)
    assert not plane_loops.serve(plane, plane.bfloat16())
    assert not plane_loops.serve(plane.requires_grad_())
    assert not plane_loops.serve(torch.zeros(2, 2, device="meta"))
    traced = torch.export.export(Unfolding(), (torch.zeros(1, 4, 2, 2),))
    assert torch.equal(traced.module()(torch.arange(16.0).view(1, 4, 2, 2)), unfolded())


class Unfolding(torch.nn.Module):
    """What a graph may hold, and a loop may not be."""

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return unfold_planes(planes, 2)


def unfolded() -> torch.Tensor:
    return unfold_planes(torch.arange(16.0).view(1, 4, 2, 2), 2)


def test_gradients_pass_what_loops_do_otherwise() -> None:
    planes = torch.rand(1, 4, 3, 3, requires_grad=True)
    unfold_planes(planes, 2).sum().backward()
    assert planes.grad is not None
    assert torch.equal(planes.grad, torch.ones_like(planes))


_HALVES = (-math.log(2), math.log(2))


def test_events_that_turn_a_pixel_mad_are_all_ignored() -> None:
    cells = np.array([3, 5, 3, 3, 5, 3], np.int32)
    pixels, ignored, factors = np.zeros(8, event_loops.PIXEL), np.zeros(8, np.bool_), np.full(6, 2, np.float32)
    pixels["total"] = np.bincount(cells, minlength=8)
    assert event_loops.ignore(factors, cells, 0, pixels, ignored, _HALVES, 3.5 * math.log(2))
    assert ignored.tolist() == [k == 3 for k in range(8)]
    assert factors.tolist() == [1, 2, 1, 1, 2, 1]
    assert not event_loops.ignore(factors, cells, 6, pixels, ignored, _HALVES, 3.5 * math.log(2))


@pytest.mark.parametrize("taken", [0, 5])
def test_pixels_that_flicker_are_not_mad_and_those_that_go_one_way_are(taken: int) -> None:
    up = np.array([True, False] * 40 + [True] * 9 + [False] * 12)
    cells = np.where(np.arange(len(up)) < 80, 2, 6).astype(np.int32)
    factors = np.where(up, 2, 0.5).astype(np.float32)
    pixels, ignored = np.zeros(8, event_loops.PIXEL), np.zeros(8, np.bool_)
    pixels["total"] = np.bincount(cells, minlength=8)
    before = factors.copy()
    assert not event_loops.ignore(factors, cells, taken, pixels, ignored, _HALVES, 12.5 * math.log(2))
    np.testing.assert_array_equal(factors, before)
    assert event_loops.ignore(factors, cells, taken, pixels, ignored, _HALVES, 11.5 * math.log(2))
    assert ignored.tolist() == [k == 6 for k in range(8)]


@pytest.mark.parametrize("mad", [False, True])
def test_pixel_that_goes_mad_is_ignored_however_its_events_came(mad: bool) -> None:
    """Thresholds that differ: darker events carry a pixel thrice as far as brighter ones."""
    up = np.concatenate([np.arange(295) % 59 < 18, np.ones(60, np.bool_)])
    up[295:] = not mad
    t_us = 101_000 + 100 * np.arange(len(up))
    place = np.zeros(len(up), np.uint16)
    captured = random_frame(0, 0, 100_000, 100_500)
    events = EventBatch(t_us, place, place, up.astype(np.uint8), 150_000)
    whole = window_of((captured,), events, calibration=Calibration(0.1, 0.3))
    whole = replace(whole, t1_us=150_000, covered_us=(0.0, 150_000.0), events=events)
    images = []
    for pieces in ((355,), (100, 355), (295, 355), tuple(range(5, 356, 5))):
        integral = DoubleIntegral(500)
        for number in pieces:
            part = events.part(slice(0, number))
            end_us = 150_000 if number == 355 else int(t_us[number - 1]) + 1
            part = replace(part, watermark_us=end_us)
            integral.build(replace(whole, t1_us=end_us, events=part), light_of(whole))
        instants = [Shutter.instant(t, GEOMETRY.height) for t in (101_500.0, 120_000.0, 140_000.0)]
        images.append(np.stack([integral.expose(each).numpy() for each in instants]))
    for image in images[1:]:
        np.testing.assert_array_equal(image, images[0])
    assert (images[0][:, 0, 0, 0] == images[0][0, 0, 0, 0]).all() == mad


def test_pixel_that_sees_a_lamp_flicker_goes_on() -> None:
    """A hundred times a second, at ten frames a second: 650 events of a pixel in a window, none of them mad."""
    t_us = 101_000 + 300 * np.arange(650)
    zeros, brighter = np.zeros(650, np.uint16), (np.arange(650) // 10 % 2 == 0).astype(np.uint8)
    events = EventBatch(t_us, zeros, zeros, brighter, 300_000)
    captured = random_frame(0, 0, 100_000, 100_500)
    integral = DoubleIntegral(500)
    seen = window_of((captured,), events, calibration=Calibration(0.1, 0.1))
    seen = replace(seen, t1_us=300_000, covered_us=(0.0, 300_000.0), events=events)
    integral.build(seen, light_of(seen))

    def light(events: int) -> float:
        return float(integral.expose(Shutter.instant(float(t_us[events - 1]) + 1, GEOMETRY.height))[0, 0, 0])

    assert light(640) == pytest.approx(float(captured.pixels[0, 0, 0]), rel=1e-2)
    assert light(650) == pytest.approx(math.e * float(captured.pixels[0, 0, 0]), rel=1e-2)


@pytest.mark.parametrize("place", [(GEOMETRY.width - 1, GEOMETRY.height), (0, 40_000)])
def test_event_outside_the_sensor_is_refused_before_anything_is_written_there(place: tuple[int, int]) -> None:
    seen = window(Calibration(0.2, 0.3), 2)
    x, y = seen.events.x.copy(), seen.events.y.copy()
    x[-1], y[-1] = place
    events = replace(seen.events, x=x, y=y)
    with pytest.raises(ValueError, match="outside the sensor"):
        DoubleIntegral(500).build(replace(seen, events=events), light_of(seen))
    planes = EventPlanes(GEOMETRY, 500)
    planes.reset(seen.t0_us, seen.t1_us)
    with pytest.raises(ValueError, match="outside the sensor"):
        planes.add(events, HOT)
