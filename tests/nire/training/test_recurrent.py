"""Streams of windows to learn from: they hang together, their targets fit, and a network learns from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nire.recurrent.network import RecurrentNetwork
from nire.training.losses import charbonnier
from nire.training.recurrent import BEGINNING, PAUSED_SHARE, RecurrentSample, cut_into_windows
from nire.training.samples import Samples
from tests.nire.recurrent.streams import TINY
from tests.nire.training.rooms import CROP, small_bank, small_settings

WINDOWS = 5


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    bank = small_bank(tmp_path_factory.mktemp("pictures"))
    wanted = {"tasks": {"events_only": 1.0}, "noise": "ideal", "threshold_error": 0.0, "drop_share": 0.0}
    settings = small_settings(data={**wanted, "steps_per_bin": 6, "crop_px": CROP})
    return Samples(bank, settings.data, cut=cut_into_windows(TINY.bins, WINDOWS), seed=1)


def made(samples: Samples, index: int) -> RecurrentSample:
    sample = samples.at(index)
    assert isinstance(sample, RecurrentSample)
    return sample


def test_all_ends_of_bins_but_those_of_the_beginning_have_a_target(samples: Samples) -> None:
    sample = made(samples, 0)
    assert len(sample.events) == WINDOWS
    assert sample.target.shape == (3, TINY.bins * (WINDOWS - BEGINNING), 1, CROP, CROP)
    assert sample.expose(RecurrentNetwork(TINY)).shape == sample.target.shape == sample.estimates().shape


def test_events_carry_the_truth_from_target_to_target(samples: Samples) -> None:
    """An ideal sensor's events, from one end of a bin to the next, are what light does, to a threshold."""
    closest = []
    for index in range(8):
        sample = made(samples, index)
        change = torch.cat([events.change for events in sample.events[BEGINNING:]], 1)[:, 1:]
        right = (sample.target[:, :, 0].square() + 1e-3).log().diff(dim=1)
        seen = sample.target[:, 1:, 0] > 0.3  # in the dark, and above white, targets are not what events tell of
        seen &= sample.target[:, 1:, 0] < 0.98
        told, positive = change[seen], sample.events[0].told[:, 0].max() / 4
        closest.append(float((told - right[seen]).abs().median() / positive))
    assert np.median(closest) < 0.5


def test_everything_stands_still_in_pauses(samples: Samples) -> None:
    still = 0
    for index in range(12):
        target = made(samples, index).target[:, :, 0].unflatten(1, (-1, TINY.bins))
        stands = (target == target[:, :, :1]).flatten(2).all(2).any(0)
        still += bool(stands.any())
    assert 0 < still < 12
    assert 0 < PAUSED_SHARE < 1


def test_what_no_event_told_of_is_hardly_judged(samples: Samples) -> None:
    sample = made(samples, 0)
    target = sample.target
    torch.testing.assert_close(sample.judged(target), target)
    assert (sample.judged(target + 0.2) - target).amax() == pytest.approx(0.2)
    sample = replace(sample, events=tuple(events._replace(number=events.number * 0) for events in sample.events))
    wrong = target.clone()
    wrong[..., 5, 5] += 0.5
    assert (sample.judged(wrong) - target)[..., 5, 5].amax() == pytest.approx(0.5 * 0.2, rel=0.01)


def test_same_number_gives_the_same_stream(samples: Samples) -> None:
    one, two = made(samples, 3), made(samples, 3)
    torch.testing.assert_close(one.target, two.target)
    for first, second in zip(one.events, two.events, strict=True):
        torch.testing.assert_close(first.change, second.change)


def test_network_learns_more_than_physics_knows(samples: Samples) -> None:
    torch.manual_seed(1)
    network = RecurrentNetwork(TINY)
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    sample = made(samples, 0)

    def error() -> Tensor:
        return charbonnier(sample.expose(network).flatten(0, 1), sample.target.flatten(0, 1))

    before = error().item()
    for _ in range(40):
        optimiser.zero_grad()
        error().backward()
        optimiser.step()
    assert error().item() < 0.8 * before


def test_shipped_recipe_makes_such_streams() -> None:
    from nire.training.__main__ import network_config
    from nire.training.settings import read_settings

    settings = read_settings(Path(__file__).parents[3] / "configs" / "train_events_only.toml")
    config = network_config(settings.model)
    assert (config.size, settings.data.tasks) == ("nano", {"events_only": 1.0})
