"""What the network is given live is what it was trained on: witnesses of single windows against those of batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from nire.explicit.config import ExplicitConfig
from nire.explicit.content import KeyPlanes
from nire.explicit.evidence import called_up
from nire.explicit.network import CUT, ROLLED, Inputs
from nire.explicit.rolled import Past
from nire.explicit.witnesses import Witnesses, noise_level, noise_levels
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


def live(window: Window, k: int, past: Callable[[], Past] | None = None) -> tuple[Inputs, DoubleIntegral, np.ndarray]:
    sensors = window.sensors
    calibration = Calibration(float(sensors.threshold_positive[k]), float(sensors.threshold_negative[k]))
    case = Case("any", window, sensors.threshold_positive, sensors.threshold_negative)
    content, light = _content(case, k, calibration)
    integral = DoubleIntegral(100)
    integral.build(content, light)
    witnesses = Witnesses(CONFIG, (CROP, CROP), torch.device("cpu"))
    times_us = witnesses.times_us(content)
    before = past or (lambda: None)
    evidence = witnesses.of(integral, content, light, before)
    return called_up(evidence, (CROP, CROP)), integral, times_us


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


def test_what_the_window_before_ended_with_is_carried_live_as_in_training(bank: Bank) -> None:
    window, _ = seen(bank, FRAMES["pair"])
    positive, negative = window.sensors.threshold_positive, window.sensors.threshold_negative
    cut = cut_at_key_times(BINS, queries=2, rolled_share=1.0)
    sample = cut.make(window, positive, negative, task="any", index=0, again=window)
    assert isinstance(sample, ExplicitSample)
    assert sample.again is not None
    assert sample.again.node.tolist() == [STEPS // 4] * 2
    given: list[Inputs] = []
    planes = sample.target[:, 2:, 0]

    def network(*inputs: torch.Tensor) -> torch.Tensor:
        given.append(Inputs(*inputs))
        return planes

    sample.expose(network)
    # The first key time after the start is where the first frame's exposure ends.
    light = planes[:, 1].square() * 255
    for k in range(2):
        end_us = float(window.window_us[k]) / 4
        ours, _, _ = live(window, k, lambda k=k, at=end_us: Past(light[k], at, 3))
        theirs = given[-1]
        assert ours.told[0, :-1].tolist() == pytest.approx(theirs.told[k, :-1].tolist(), abs=1e-3)
        assert ours.told[0, -1] == pytest.approx(np.log(4))
        for name in ("witnesses", "trust"):
            difference = (getattr(ours, name)[0, :, ROLLED].clamp_min(CUT) - getattr(theirs, name)[k, :, ROLLED]).abs()
            assert difference.quantile(0.9) < (0.03 if name == "witnesses" else 0.2)
            assert (theirs.trust[k, :, ROLLED] > CUT).all()
        # Carried to where it was, it is what it was.
        assert torch.allclose(ours.witnesses[0, 1, ROLLED].square() * 255, light[k], atol=0.1)


def test_window_with_a_gap_hears_nothing_of_the_one_before(bank: Bank) -> None:
    window, _ = seen(bank, FRAMES["pair"], lost=(0.5, 0.75))
    positive, negative = window.sensors.threshold_positive, window.sensors.threshold_negative
    cut = cut_at_key_times(BINS, queries=2, rolled_share=1.0)
    sample = cut.make(window, positive, negative, task="any", index=0, again=window)
    given: list[Inputs] = []

    def network(*inputs: torch.Tensor) -> torch.Tensor:
        given.append(Inputs(*inputs))
        return inputs[0][:, :, 0]

    sample.expose(network)
    assert (given[-1].trust[:, :, ROLLED] <= CUT).all()
    assert (given[-1].told[:, -1] == 0).all()


def test_frame_that_missing_events_cut_off_is_not_heard(bank: Bank) -> None:
    _, sample = seen(bank, FRAMES["pair"], lost=(0.25, 0.75))
    middle = sample.inputs.trust[:, BINS // 2]
    heard = middle[:, :2].amax((2, 3)) > CUT
    assert heard.sum(1).tolist() == [1, 1]


def test_noise_of_an_image_is_found_beside_its_edges() -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(rng.uniform(0, 1, (8, 8)), 16, 0).repeat(16, 1)
    noisy = (image + rng.normal(0, 0.02, image.shape)).astype(np.float32)
    assert noise_level(noisy[None]).item() == pytest.approx(0.02, rel=0.15)


def test_pattern_of_the_camera_is_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    light = np.repeat(rng.uniform(0.3, 0.6, (12, 12)), 8, 0).repeat(8, 1)
    pattern, noise = rng.normal(0, 0.03, (96, 96)), rng.normal(0, 0.01, (2, 96, 96))
    frames = torch.from_numpy((light + pattern + noise).astype(np.float32))[None]
    within, apart = noise_levels(frames)[0].tolist()
    assert within == pytest.approx(np.hypot(0.03, 0.01), rel=0.15)
    assert apart == pytest.approx(0.01, rel=0.15)
    alone = noise_levels(frames[:, :1])[0].tolist()
    assert alone[0] == alone[1] == pytest.approx(within, rel=0.1)


def test_motion_is_not_told_as_noise() -> None:
    rng = np.random.default_rng(1)
    scene = np.repeat(rng.uniform(0, 1, (13, 13)), 8, 0).repeat(8, 1)
    frames = np.stack([scene[:96, :96], scene[5:101, 5:101]]) + rng.normal(0, 0.01, (2, 96, 96))
    within, apart = noise_levels(torch.from_numpy(frames.astype(np.float32))[None])[0].tolist()
    assert apart <= within == pytest.approx(0.01, rel=0.3)
