"""Key planes exposed: against the slow reference, and what every exposure must keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nire.explicit.content import KeyPlanes
from nire.integral.double_integral import DoubleIntegral
from nire.shutter import Shutter
from nire.types import ContentWindow
from tests.nire.explicit.exact_planes import ExactPlanes
from tests.nire.windows import GEOMETRY, random_events, random_frame, window_of

HEIGHT, WIDTH = GEOMETRY.height, GEOMETRY.width
PIXELS = ((0, 0), (3, 7), (4, 5), (8, 11))
TIMES_US = np.linspace(95_000.0, 145_000.0, 9)


@pytest.fixture(params=[False, True], ids=["loops", "torch"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr("nire.integral.loops.serve", lambda *_, **__: False)


def window(count: int = 1200) -> ContentWindow:
    made = window_of((random_frame(1, 0, 100_000, 120_000),), random_events(2, count, 80_000, 160_000))
    return replace(made, t0_us=95_000, t1_us=145_000, events=random_events(2, count, 95_000, 145_000))


def planes_of(channels: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(7).uniform(5, 200, (9, channels, HEIGHT, WIDTH)).astype(np.float32)


def content_of(window: ContentWindow, planes: NDArray[np.float32]) -> KeyPlanes:
    integral = DoubleIntegral(500)
    integral.build(window, [torch.from_numpy(frame.pixels).permute(2, 0, 1).float() for frame in window.frames])
    return KeyPlanes(integral.gain, TIMES_US, torch.from_numpy(planes))


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("row_delay_us", [0.0, 900.0])
@pytest.mark.parametrize("t_us", [95_000.0, 101_250.0, 107_133.5, 131_999.0])
def test_instant_equals_the_exact_reference(t_us: float, row_delay_us: float) -> None:
    given, planes = window(), planes_of()
    image = content_of(given, planes).expose(Shutter.instant(t_us, HEIGHT, row_delay_us)).numpy()[0]
    for y, x in PIXELS:
        exact = ExactPlanes(given, TIMES_US, planes[:, 0], y=y, x=x).light(t_us + y * row_delay_us)
        assert image[y, x] == pytest.approx(exact, rel=2e-3, abs=0.05)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("row_delay_us", [0.0, -600.0, 900.0])
def test_exposure_equals_the_mean_of_exact_instants(row_delay_us: float) -> None:
    given, planes = window(), planes_of()
    shutter = Shutter.rolling(103_210.0, 127_770.0, row_delay_us=row_delay_us, height=HEIGHT)
    image = content_of(given, planes).expose(shutter).numpy()[0]
    for y, x in PIXELS:
        exact = ExactPlanes(given, TIMES_US, planes[:, 0], y=y, x=x).mean(shutter.t_a_us[y], shutter.t_b_us[y])
        assert image[y, x] == pytest.approx(exact, rel=0.02, abs=0.5)


@pytest.mark.usefixtures("arithmetic")
def test_events_of_one_microsecond_all_count() -> None:
    """The ramp of the second one has no length: it begins where it ends."""
    given, planes = window(), planes_of()
    events = given.events
    given = replace(given, events=replace(events, t_us=events.t_us // 2000 * 2000))
    content = content_of(given, planes)
    for t_a_us, t_b_us in ((103_210.0, 127_770.0), (104_000.0, 126_000.0)):
        image = content.expose(Shutter.flat(t_a_us, t_b_us, HEIGHT)).numpy()[0]
        for y, x in PIXELS:
            exact = ExactPlanes(given, TIMES_US, planes[:, 0], y=y, x=x).mean(t_a_us, t_b_us)
            assert image[y, x] == pytest.approx(exact, rel=0.02, abs=0.5)


def test_images_do_not_depend_on_what_was_asked_before() -> None:
    given, planes = window(6000), planes_of(3)
    shutters = [Shutter.flat(t_us, t_us + 9_700.0, HEIGHT) for t_us in np.linspace(96_000.0, 134_000.0, 9)]
    shutters += [
        Shutter.instant(118_000.0, HEIGHT),
        Shutter.rolling(1.1e5, 1.13e5, row_delay_us=900.0, height=HEIGHT),
    ]
    alone = [content_of(given, planes).expose(shutter).numpy().copy() for shutter in shutters]
    content = content_of(given, planes)
    for k in np.random.default_rng(3).permutation(np.repeat(np.arange(len(shutters)), 3)):
        np.testing.assert_array_equal(content.expose(shutters[k]).numpy(), alone[k])


def test_at_key_times_the_planes_are_given_back() -> None:
    planes = planes_of(3)
    content = content_of(window(), planes)
    for t_us, plane in zip(TIMES_US, planes, strict=True):
        np.testing.assert_allclose(content.expose(Shutter.instant(t_us, HEIGHT)).numpy(), plane, rtol=1e-3, atol=0.02)


def test_halves_of_an_exposure_average_to_the_whole() -> None:
    content = content_of(window(), planes_of())
    first, second, whole = (
        content.expose(Shutter.flat(a, b, HEIGHT)).numpy().copy()
        for a, b in ((101_000.0, 117_000.0), (117_000.0, 133_000.0), (101_000.0, 133_000.0))
    )
    np.testing.assert_allclose((first + second) / 2, whole, rtol=1e-3, atol=0.05)


def test_shutters_of_pixels_are_those_of_images_pixel_by_pixel() -> None:
    content = content_of(window(), planes_of())
    times = np.linspace(97_000.0, 138_000.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    for width_us in (0.0, 6_000.0):
        image = content.expose(Shutter(times, times + width_us)).numpy()[0].copy()
        for y, x in PIXELS:
            alone = content.expose(Shutter.flat(times[y, x], times[y, x] + width_us, HEIGHT)).numpy()[0]
            assert image[y, x] == pytest.approx(alone[y, x], rel=1e-3, abs=0.05)


def test_planes_of_physics_are_the_double_integral_again() -> None:
    """With the double integral's own planes, images are its own: one frame, so there is nothing to blend."""
    given = window()
    integral = DoubleIntegral(500)
    integral.build(given, [torch.from_numpy(frame.pixels).permute(2, 0, 1).float() for frame in given.frames])
    planes = torch.stack([integral.expose(Shutter.instant(t, HEIGHT)).clone() for t in TIMES_US])
    content = KeyPlanes(integral.gain, TIMES_US, planes)
    for shutter in (Shutter.instant(108_111.0, HEIGHT), Shutter.flat(100_000.0, 120_000.0, HEIGHT)):
        np.testing.assert_allclose(
            content.expose(shutter).numpy(), integral.expose(shutter).numpy(), rtol=2e-2, atol=0.6
        )
