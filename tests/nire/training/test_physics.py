"""The batched double integral against the exact one of `nire.integral.double_integral`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nire.integral.double_integral import DoubleIntegral
from nire.shutter import Shutter
from nire.training.methods import _content
from nire.training.physics import averaged, changes, changes_by_torch, log_trust, node_shares, re_expose
from nire.training.pictures import Bank
from nire.training.protocols import Case
from nire.training.samples import Window, see
from nire.training.scenes import Scenes, render
from nire.training.sensor import draw_sensors
from nire.training.tasks import Shutters
from nire.types import Calibration, Gap
from tests.nire.training.rooms import CROP


def window_of(bank: Bank, frames: list[list[float]], asked: list[list[float]]) -> Window:
    """Windows whose shutters are [start, end, read-out]."""
    rng = np.random.default_rng(3)
    scenes = render(bank, rng, batch=2, crop_px=CROP, steps=48, layers=2)
    scenes = Scenes(scenes.light, torch.tensor([24_000.0, 40_000.0]))
    row = np.arange(CROP) / (CROP - 1)

    def rows(shutters: list[list[float]]) -> np.ndarray:
        each = [np.stack([a + read_out * row, b + read_out * row], -1) for a, b, read_out in shutters]
        return np.stack([np.stack(each)] * 2).astype(np.float32)

    sensors = draw_sensors(rng, 2, "realistic")
    observed = np.ones((2, 1), np.float32)
    generator = torch.Generator().manual_seed(1)
    return see(scenes, Shutters(rows(frames), rows(asked)), sensors, observed=observed, generator=generator)


# Instants lie on edges of steps: within a step events are spread evenly here, and counted one by one there.
@pytest.mark.parametrize("frame", [[0.1, 0.9, 0.0], [0.5, 0.5, 0.0], [0.1, 0.3, 0.5]], ids=["long", "instant", "roll"])
@pytest.mark.parametrize(
    "asked", [[0.25, 0.25, 0.0], [0.2, 0.7, 0.0], [0.2, 0.5, 0.3]], ids=["instant", "long", "roll"]
)
def test_re_exposure_is_that_of_the_exact_double_integral(bank: Bank, frame: list[float], asked: list[float]) -> None:
    window = window_of(bank, [frame], [asked])
    positive, negative = window.sensors.threshold_positive, window.sensors.threshold_negative
    told = changes(window.counts, positive, negative)
    batched = re_expose(window.frames, told.log_gain, window.frame_shutters, window.shutters)[:, 0, 0].clamp(0, 1)
    case = Case("any", window, positive, negative)
    for k in range(2):
        content, light = _content(case, k, Calibration(float(positive[k]), float(negative[k])))
        integral = DoubleIntegral(100)
        integral.build(content, light)
        rows = window.shutters[k, 0].double().numpy() * float(window.window_us[k])
        exact = integral.expose(Shutter(rows[:, 0], rows[:, 1]))[0].clamp(max=255) / 255
        error = (batched[k] - exact).square().mean()
        assert -10 * torch.log10(error) > 45


def test_shares_of_the_nodes_sum_to_one() -> None:
    times = torch.rand(2, 5, 7, 2, generator=torch.Generator().manual_seed(0)).sort(-1).values
    times[:, 0, :, 1] = times[:, 0, :, 0]
    times[:, 1] = torch.tensor([-0.3, 1.4])
    torch.testing.assert_close(node_shares(times, 12).sum(2), torch.ones(2, 5, 7), atol=1e-4, rtol=0)


def test_shutters_of_pixels_are_those_of_rows_where_all_pixels_of_a_row_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    planes = torch.rand(2, 9, 6, 5, generator=generator)
    rows = torch.rand(2, 3, 6, 2, generator=generator).sort(-1).values
    pixels = rows[:, :, :, None].expand(2, 3, 6, 5, 2)
    torch.testing.assert_close(averaged(planes, node_shares(rows, 8)), averaged(planes, node_shares(pixels, 8)))


def test_a_frame_at_its_own_shutter_is_itself(bank: Bank) -> None:
    window = window_of(bank, [[0.1, 0.6, 0.2]], [[0.1, 0.6, 0.2]])
    told = changes(window.counts, torch.full((2,), 0.2), torch.full((2,), 0.2))
    again = re_expose(window.frames, told.log_gain, window.frame_shutters, window.shutters)
    torch.testing.assert_close(again[:, 0], window.frames, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "lost", [None, (0.45, 0.55), (0.0, 0.1), (0.05, 0.15)], ids=["whole", "gap", "early", "within"]
)
@pytest.mark.parametrize("asked", [0.125, 0.375, 0.5, 0.75, 0.9375])
def test_trust_is_that_of_the_exact_double_integral(bank: Bank, lost: tuple[float, float] | None, asked: float) -> None:
    window = window_of(bank, [[0.0625, 0.25, 0.0], [0.6875, 0.8125, 0.0]], [[asked, asked, 0.0]])
    step = np.arange(48) / 48
    missing = np.zeros(48, bool) if lost is None else (step >= lost[0]) & (step < lost[1])
    window.counts[:, torch.from_numpy(missing)] = 0
    observed = torch.from_numpy(1 - missing.astype(np.float32)).expand(2, -1)
    batched = log_trust(window.counts, observed, window.frame_shutters, window.shutters)[:, 0]
    ones = torch.ones(2)
    for k in range(2):
        content, light = _content(Case("any", window, ones, ones), k, Calibration(0.2, 0.2))
        span_us = float(window.window_us[k])
        if lost is not None:
            gap = Gap(*(round(float(t) * span_us) for t in (step[missing][0], step[missing][-1] + 1 / 48)), "lost")
            content = replace(content, gaps=(gap,))
        integral = DoubleIntegral(100)
        integral.build(content, light)
        rows = window.shutters[k, 0].double().numpy() * span_us
        exact = integral.estimates(Shutter(rows[:, 0], rows[:, 1]))[1][:, 0]
        near = (batched[k].exp() - exact.exp()).abs() < 0.1 * exact.exp() + 0.01
        assert near.float().mean() > 0.98


def test_without_frames_there_is_nothing_to_re_expose() -> None:
    again = re_expose(
        torch.zeros(2, 0, 4, 5), torch.zeros(2, 9, 4, 5), torch.zeros(2, 0, 4, 2), torch.zeros(2, 3, 4, 2)
    )
    assert again.shape == (2, 3, 0, 4, 5)


def test_loop_sums_events_up_with_ramps_as_torch_does() -> None:
    generator = torch.Generator().manual_seed(0)
    fires = torch.rand((2, 12, 2, 5, 6), generator=generator) < 0.15
    counts = (fires * torch.randint(1, 4, fires.shape, generator=generator)).to(torch.uint8)
    observed = torch.ones(2, 12)
    observed[1, 4:6] = 0
    counts *= (observed > 0).to(torch.uint8)[..., None, None, None]
    given = (counts, torch.tensor([0.2, 0.3]), torch.tensor([0.25, 0.1]), observed)
    loop, by_torch = changes(*given), changes_by_torch(*given)
    torch.testing.assert_close(loop.log_gain, by_torch.log_gain, atol=1e-6, rtol=0)
    torch.testing.assert_close(loop.count, by_torch.count, atol=1e-5, rtol=0)
