"""Events are believed where planes say what they say; the rest of the light goes evenly from plane to plane."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nire.explicit.belief import belief_in
from nire.explicit.content import KeyPlanes, states_at
from nire.integral.double_integral import DARK_LEVEL, DoubleIntegral
from nire.integral.instant_loops import EVEN_STEPS
from nire.shutter import Shutter
from nire.types import ContentWindow
from tests.nire.windows import GEOMETRY, random_events, random_frame, window_of

HEIGHT, WIDTH = GEOMETRY.height, GEOMETRY.width
TIMES_US = np.linspace(95_000.0, 145_000.0, 5)
STEP = 1 / EVEN_STEPS


@pytest.fixture(params=[False, True], ids=["loops", "torch"], autouse=True)
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr("nire.integral.loops.serve", lambda *_, **__: False)


def some(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def integral_of(count: int) -> tuple[DoubleIntegral, ContentWindow]:
    made = window_of((random_frame(1, 0, 100_000, 120_000),), random_events(2, count, 80_000, 160_000))
    window = replace(made, t0_us=95_000, t1_us=145_000, events=random_events(2, count, 95_000, 145_000))
    integral = DoubleIntegral(500)
    integral.build(window, [torch.from_numpy(frame.pixels).permute(2, 0, 1).float() for frame in window.frames])
    return integral, window


def contents(belief: Tensor, channels: int = 1) -> tuple[KeyPlanes, KeyPlanes, Tensor]:
    """Give content of random planes by some belief and by full belief, and the planes."""
    integral, _ = integral_of(1200)
    planes = some(5, channels, HEIGHT, WIDTH) * 200
    believed, all_events = (KeyPlanes(integral.gain, TIMES_US, planes, belief=share) for share in (belief, None))
    return believed, all_events, planes


def test_loops_and_torch_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    planes, gains = some(5, 40, 60) * 250, some(5, 40, 60, seed=2) * 3 + 0.2
    here = belief_in(planes, gains)
    monkeypatch.setattr("nire.integral.loops.serve", lambda *_, **__: False)
    torch.testing.assert_close(here, belief_in(planes, gains), rtol=1e-4, atol=1e-4)
    assert 0 < float(here.mean()) < 1


def test_events_that_planes_follow_are_believed_whatever_the_contrast() -> None:
    gains = torch.cumprod(torch.exp((some(5, 30, 40) - 0.5) * 2), 0)
    planes = (some(30, 40, seed=3) * 40 + 2) * gains - DARK_LEVEL
    torch.testing.assert_close(belief_in(planes, gains), torch.ones(30, 40), rtol=0, atol=1e-3)


def test_where_no_event_came_events_are_believed() -> None:
    assert (belief_in(some(5, 30, 40) * 200, torch.ones(5, 30, 40)) == 1).all()


def test_noise_that_planes_have_nothing_of_is_not_believed_and_its_neighbours_are() -> None:
    gains = torch.ones(5, 30, 60)
    gains[:, :, :30] = torch.exp((some(5, 30, 30) > 0.5) * 0.25)
    gains[:, :, 30:] = torch.linspace(1, 1.8, 5)[:, None, None]
    planes = torch.full((5, 30, 60), 120.0)
    planes[:, :, 30:] = 120 * gains[:, :, 30:]
    belief = belief_in(planes, gains)
    assert float(belief[:, :26].max()) < 0.05
    assert float(belief[:, 34:].min()) > 0.95


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("row_delay_us", [0.0, 900.0])
@pytest.mark.parametrize("t_us", [95_000.0, 101_250.0, 131_999.0])
def test_instant_is_shared_by_events_and_time(t_us: float, row_delay_us: float, channels: int) -> None:
    belief = some(HEIGHT, WIDTH, seed=5)
    believed, all_events, planes = contents(belief, channels)
    shutter = Shutter.instant(t_us, HEIGHT, row_delay_us)
    image, by_events = (content.expose(shutter).clone() for content in (believed, all_events))
    for y in range(HEIGHT):
        gone = min((t_us + y * row_delay_us - TIMES_US[0]) / (TIMES_US[1] - TIMES_US[0]), 4.0)
        k = min(int(gone), 3)
        even = planes[k, :, y] + (gone - k) * (planes[k + 1, :, y] - planes[k, :, y])
        expected = belief[y] * by_events[:, y] + (1 - belief[y]) * even
        torch.testing.assert_close(image[:, y], expected.float(), rtol=1e-3, atol=STEP)


@pytest.mark.parametrize("row_delay_us", [0.0, -600.0, 900.0])
def test_exposure_is_the_mean_of_its_instants(row_delay_us: float) -> None:
    believed, _, _ = contents(some(HEIGHT, WIDTH, seed=5))
    shutter = Shutter.rolling(103_210.0, 127_770.0, row_delay_us=row_delay_us, height=HEIGHT)
    image = believed.expose(shutter).clone()
    times_us = 103_210.0 + (np.arange(400) + 0.5) / 400 * 24_560.0
    instants = [believed.expose(Shutter.instant(t_us, HEIGHT, row_delay_us)).clone() for t_us in times_us]
    torch.testing.assert_close(image, torch.stack(instants).mean(0), rtol=0.02, atol=0.3)


def test_images_are_those_of_the_light(arithmetic: None) -> None:
    believed, _, _ = contents(some(HEIGHT, WIDTH, seed=5))
    shutters = [Shutter.instant(t_us, HEIGHT) for t_us in (97_000.0, 107_133.5, 140_000.0)]
    light = torch.stack([believed.expose(shutter).clone() for shutter in shutters])
    images = torch.zeros((3, HEIGHT, WIDTH, 1), dtype=torch.uint8)
    if believed.show(shutters, images, np.empty(0, np.uint8)):
        assert float((images[..., 0] - light[:, 0].clamp_max(255)).abs().max()) <= 0.501


def test_planes_are_given_back_and_halves_average_to_the_whole() -> None:
    believed, _, planes = contents(some(HEIGHT, WIDTH, seed=5))
    for t_us, plane in zip(TIMES_US, planes, strict=True):
        torch.testing.assert_close(believed.expose(Shutter.instant(t_us, HEIGHT)), plane, rtol=1e-3, atol=STEP)
    first, second, whole = (
        believed.expose(Shutter.flat(a, b, HEIGHT)).clone()
        for a, b in ((101_000.0, 117_000.0), (117_000.0, 133_000.0), (101_000.0, 133_000.0))
    )
    torch.testing.assert_close((first + second) / 2, whole, rtol=1e-3, atol=0.05)


def test_still_scene_does_not_flicker_with_the_noise_of_its_events() -> None:
    """Planes that the network has cleaned say that nothing changed: so do the images between them."""
    integral, _ = integral_of(3000)
    planes = torch.full((5, 1, HEIGHT, WIDTH), 100.0)
    gains, counts = states_at(integral.gain, TIMES_US)
    belief = belief_in(planes[:, 0], gains)
    still, flickering = (
        KeyPlanes(integral.gain, TIMES_US, planes, (gains, counts), share).expose(Shutter.instant(112_345.0, HEIGHT))
        for share in (belief, None)
    )
    assert float((still - 100).abs().mean()) < 0.2 * float((flickering - 100).abs().mean())


def test_light_is_written_however_it_lies_in_memory() -> None:
    believed, all_events, _ = contents(some(HEIGHT, WIDTH, seed=5), channels=3)
    shutter = Shutter.instant(107_133.5, HEIGHT)
    integral, _ = integral_of(1200)
    for content in (believed, all_events):
        out = torch.empty((HEIGHT, WIDTH, 3)).permute(2, 0, 1)
        torch.testing.assert_close(content.expose(shutter, out), content.expose(shutter), rtol=0, atol=0)
    out = torch.empty((WIDTH, HEIGHT, 1)).permute(2, 1, 0)
    torch.testing.assert_close(integral.expose(shutter, out), integral.expose(shutter), rtol=0, atol=0)
