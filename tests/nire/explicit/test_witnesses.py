"""What the network is given live is what it was trained on: witnesses of single windows against those of batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nire.explicit.config import ExplicitConfig
from nire.explicit.content import KeyPlanes, states_at
from nire.explicit.network import CUT, Inputs
from nire.explicit.witnesses import Witnesses, noise_level
from nire.integral.double_integral import DoubleIntegral
from nire.shutter import Shutter
from nire.training.explicit import ExplicitSample, cut_at_key_times
from nire.training.methods import _content
from nire.training.pictures import Bank
from nire.training.protocols import Case
from nire.training.samples import Window, see
from nire.training.scenes import render
from nire.training.sensor import draw_sensors
from nire.training.tasks import Shutters
from nire.types import Calibration

BINS, STEPS, CROP = 4, 48, 32
CONFIG = ExplicitConfig("tiny", BINS, (8, 8), (0, 1), (), 2, 4)
FRAMES = {
    "pair": [[0.0, 0.25, 0.0], [0.75, 1.0, 0.0]],
    "one": [[0.25, 0.75, 0.0]],
    "rolling": [[0.0, 0.1, 0.3], [0.6, 0.7, 0.3]],
}


def rows(shutters: list[list[float]]) -> np.ndarray:
    row = np.arange(CROP) / (CROP - 1)
    each = [np.stack([a + read_out * row, b + read_out * row], -1) for a, b, read_out in shutters]
    return np.stack([np.stack(each)] * 2).astype(np.float32)


def seen(
    bank: Bank, frames: list[list[float]], lost: tuple[float, float] | None = None
) -> tuple[Window, ExplicitSample]:
    rng = np.random.default_rng(3)
    scenes = render(bank, rng, batch=2, crop_px=CROP, steps=STEPS, layers=2)
    sensors = draw_sensors(rng, 2, "ideal")
    observed = np.ones((2, BINS), np.float32)
    if lost is not None:
        observed[:, int(lost[0] * BINS) : int(lost[1] * BINS)] = 0
    asked = rows([[0.5, 0.5, 0.0], [0.2, 0.7, 0.0]])
    keys = rows([[t, t, 0.0] for t in np.linspace(0, 1, BINS + 1)])
    shutters = Shutters(rows(frames), np.concatenate([asked, keys], 1))
    window = see(scenes, shutters, sensors, observed=observed, generator=torch.Generator().manual_seed(1))
    positive, negative = sensors.threshold_positive, sensors.threshold_negative
    sample = cut_at_key_times(BINS, queries=2).make(window, positive, negative, task="any", index=0)
    assert isinstance(sample, ExplicitSample)
    return window, sample


def live(window: Window, k: int) -> tuple[Inputs, DoubleIntegral, np.ndarray]:
    sensors = window.sensors
    calibration = Calibration(float(sensors.threshold_positive[k]), float(sensors.threshold_negative[k]))
    case = Case("any", window, sensors.threshold_positive, sensors.threshold_negative)
    content, light = _content(case, k, calibration)
    integral = DoubleIntegral(100)
    integral.build(content, light)
    witnesses = Witnesses(CONFIG, (CROP, CROP), torch.device("cpu"))
    times_us = witnesses.times_us(content)
    return witnesses.of(integral, content, light, states_at(integral.gain, times_us)), integral, times_us


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
def test_network_is_given_live_what_it_was_trained_on(bank: Bank, frames: list[list[float]]) -> None:
    window, sample = seen(bank, frames)
    for k in range(2):
        given, _, _ = live(window, k)
        for name, ours, theirs in zip(Inputs._fields, given, sample.inputs, strict=True):
            difference = (ours[0] - theirs[k]).abs()
            if name == "trust":
                heard = (ours[0] > CUT) == (theirs[k] > CUT)
                assert heard.float().mean() > 0.99
                difference = (ours[0].clamp_min(CUT).exp() - theirs[k].clamp_min(CUT).exp()).abs()
            assert difference.shape == theirs[k].shape, name
            # Steps of the renderer blur times; at edges that fire the two may differ.
            assert difference.quantile(0.9) < 0.03, name


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
def test_planes_are_exposed_live_as_in_training(bank: Bank, frames: list[list[float]]) -> None:
    window, sample = seen(bank, frames)
    planes = sample.target[:, 2:, 0].sqrt()
    trained = sample.expose(lambda *_: planes)[:, :2, 0]
    for k in range(2):
        _, integral, times_us = live(window, k)
        content = KeyPlanes(integral.gain, times_us, planes[k].square().mul(255)[:, None])
        for query in range(2):
            times = window.shutters[k, query].double().numpy() * float(window.window_us[k])
            exposed = content.expose(Shutter(times[:, 0], times[:, 1]))[0].div(255).sqrt()
            error = (exposed - trained[k, query]).square().mean()
            assert -10 * torch.log10(error) > 38


def test_frame_that_missing_events_cut_off_is_not_heard(bank: Bank) -> None:
    _, sample = seen(bank, FRAMES["pair"], lost=(0.25, 0.75))
    middle = sample.inputs.trust[:, BINS // 2]
    heard = middle[:, :2].amax((2, 3)) > CUT
    assert heard.sum(1).tolist() == [1, 1]


def test_noise_of_an_image_is_found_beside_its_edges() -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(rng.uniform(0, 1, (8, 8)), 16, 0).repeat(16, 1)
    noisy = torch.from_numpy((image + rng.normal(0, 0.02, image.shape)).astype(np.float32))
    assert noise_level(noisy[None]).item() == pytest.approx(0.02, rel=0.15)
