"""Learning from a camera's own frames: what a lesson says, that it is learned, and that nothing is spoilt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nire.explicit.config import ExplicitConfig
from nire.explicit.content import KeyPlanes, plane_shares, states_at
from nire.explicit.network import KeyPlaneNetwork
from nire.integral.double_integral import DARK_LEVEL, DoubleIntegral
from nire.shutter import Shutter
from nire.training import adaptation
from nire.training.adaptation import LAST_LAYERS, Lesson, Teacher, adapt
from nire.types import ContentWindow, Frame, Geometry
from tests.nire.windows import random_events, random_frame

GEOMETRY = Geometry(48, 40)
CONFIG = ExplicitConfig("tiny", 4, (8, 8), (0, 1), (), 2, 4)
TIMES_US = np.linspace(100_000.0, 160_000.0, 5)


def window() -> ContentWindow:
    frames = tuple(random_frame(k, k, t, t + 10_000, geometry=GEOMETRY) for k, t in enumerate((100_000, 150_000)))
    events = random_events(2, 4000, 100_000, 160_000, GEOMETRY)
    return ContentWindow(0, 100_000, 160_000, frames, events, GEOMETRY, covered_us=(100_000.0, 160_000.0))


def between() -> Frame:
    return random_frame(7, 7, 125_000, 133_000, row_delay_us=50.0, geometry=GEOMETRY)


@pytest.mark.parametrize(
    "shutter",
    [Shutter.instant(121_234.0, 40), Shutter.rolling(110_000.0, 131_000.0, row_delay_us=200.0, height=40)],
    ids=["instant", "rolling exposure"],
)
def test_exposure_is_the_sum_of_its_shares_of_the_planes(shutter: Shutter) -> None:
    given, integral = window(), DoubleIntegral(500)
    integral.build(given, [torch.from_numpy(frame.pixels).permute(2, 0, 1).float() for frame in given.frames])
    states = states_at(integral.gain, TIMES_US)
    planes = torch.from_numpy(np.random.default_rng(1).uniform(5, 200, (5, 1, 40, 48)).astype(np.float32))
    light = KeyPlanes(integral.gain, TIMES_US, planes, states).expose(shutter)[0]
    shares = plane_shares(integral.gain, TIMES_US, shutter, states)
    summed = (shares * (planes[:, 0] + DARK_LEVEL)).sum(0) - DARK_LEVEL
    error = (summed - light).abs()
    assert error.quantile(0.98) < 0.05
    assert error.max() < 1


def lessons(count: int = 6) -> list[Lesson]:
    return Teacher(CONFIG, 40, 48, bin_us=500).lessons(window(), between(), count=count)


def test_lessons_are_parts_of_the_window_as_the_network_takes_them() -> None:
    made = lessons(4)
    assert len(made) == 4
    for lesson in made:
        assert lesson.target.shape == (40, 48)
        assert lesson.inputs.witnesses.shape == (1, 5, 5, 40, 48)
        assert lesson.shares.shape == (5, 40, 48)
        with torch.no_grad():
            assert KeyPlaneNetwork(CONFIG)(*lesson.inputs).shape == (1, 5, 40, 48)


def test_last_layers_learn_what_lessons_say_and_the_given_network_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "_LOOK_EVERY", 5)
    monkeypatch.setattr(adaptation, "_RATE", 3e-3)
    torch.manual_seed(0)
    network = KeyPlaneNetwork(CONFIG).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = lessons()
    # All frames are half as bright as they were: a correction that any lesson teaches.
    darker = [replace(lesson, target=lesson.target * 0.8) for lesson in made]
    learned = adapt(network, darker[:4], darker[4:], minutes=60, iterations=150)
    assert adaptation._error(learned, darker[4:]) < 0.9 * adaptation._error(network, darker[4:])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    differing = {name for name, value in learned.state_dict().items() if not torch.equal(value, before[name])}
    assert differing
    assert {name.split(".")[1] for name in differing} <= set(LAST_LAYERS)


def test_what_does_not_help_elsewhere_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "_LOOK_EVERY", 5)
    torch.manual_seed(0)
    network, made = KeyPlaneNetwork(CONFIG).eval(), lessons()
    darker = [replace(lesson, target=lesson.target * 0.5) for lesson in made[:4]]
    with torch.no_grad():
        as_they_are = [replace(lesson, target=_image(network, lesson)) for lesson in made[4:]]
    learned = adapt(network, darker, as_they_are, minutes=60, iterations=150)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in learned.state_dict().items())


def _image(network: KeyPlaneNetwork, lesson: Lesson) -> torch.Tensor:
    planes = network(*lesson.inputs)[0].clamp_min(0).square() * 255 + DARK_LEVEL
    return ((planes * lesson.shares).sum(0) - DARK_LEVEL).div(255).clamp_min(1e-6).sqrt()
