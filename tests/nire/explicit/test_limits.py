"""How far the network may go: nowhere near what stands still, and never at what both frames show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nire.explicit.details import NOISE_ENERGY, details_of
from nire.explicit.evidence import called_up
from nire.explicit.folding_limits import limits_of
from nire.explicit.limits import LIMITS, NOISE_TOLD, limits
from tests.nire.explicit.inputs import TINY, random_evidence, random_inputs, trained_a_little

HEIGHT, WIDTH = 64, 80
EXPOSURES = torch.tensor([[[[0.1, 0.2]] * HEIGHT, [[0.8, 0.9]] * HEIGHT]])
OBSERVED = torch.ones(1, 4)
TOLD = torch.full((1, 6), 0.05 * NOISE_TOLD)


def noise(variance: float, count: int = 2) -> Tensor:
    return torch.randn((1, count, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(3)) * variance**0.5


def texture() -> Tensor:
    """Give what both frames show: [1, 1, H, W], of pixels that differ from each other by chance."""
    return torch.randn((1, 1, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(4)) * 0.05 + 0.5


def test_energy_of_noise_is_what_white_noise_has() -> None:
    for energy, details in zip(NOISE_ENERGY, details_of(torch.randn(1, 1, 512, 512)), strict=True):
        assert float(details.square().mean()) == pytest.approx(energy, rel=0.05)


def test_what_differs_from_frame_to_frame_may_be_calmed_and_what_they_share_may_not() -> None:
    still = torch.zeros(1, 4, HEIGHT, WIDTH)
    noisy = limits(still, 0.5 + noise(1e-4), EXPOSURES, OBSERVED, TOLD)[0, 1:]
    assert noisy.mean() > 0.8
    structured = limits(still, texture() + noise(1e-6), EXPOSURES, OBSERVED, TOLD)[0, 1:]
    assert structured.max() < 0.01
    both = limits(still, texture() + noise(0.05**2), EXPOSURES, OBSERVED, TOLD)[0, 1:]
    # As much noise in each frame as texture: half as much in their mean.
    assert float(both.mean()) == pytest.approx(1 / 3, abs=0.1)


def test_what_moves_is_no_noise() -> None:
    moved = torch.cat([texture(), texture().roll(3, -1)], 1)
    told = TOLD.clone()
    told[:, 1] = 0.002 * NOISE_TOLD
    assert limits(torch.ones(1, 4, HEIGHT, WIDTH), moved, EXPOSURES, OBSERVED, told)[0, 1:].max() < 0.2
    assert limits(torch.ones(1, 4, HEIGHT, WIDTH), moved, EXPOSURES, OBSERVED, TOLD)[0, 1:].mean() > 0.8


def test_one_frame_says_nothing_of_its_noise() -> None:
    frames = texture().expand(1, 2, -1, -1)
    alone = EXPOSURES[:, :1].expand(-1, 2, -1, -1)
    assert bool((limits(torch.zeros(1, 4, HEIGHT, WIDTH), frames, alone, OBSERVED, TOLD)[0, 1:] == 1).all())


def test_corrections_count_around_events_only_and_everywhere_where_events_are_missing() -> None:
    number = torch.zeros(1, 4, HEIGHT, WIDTH)
    number[0, 2, 30:34, 40:44] = np.log1p(3)
    moved = limits(number, texture().expand(1, 2, -1, -1), EXPOSURES, OBSERVED, TOLD)[0, 0]
    assert moved[13:18, 18:23].min() > 0.9
    assert moved[:8].max() < 1e-6
    assert moved[:, 30:].max() < 1e-6
    gap = OBSERVED.clone()
    gap[0, 1] = 0
    assert bool((limits(number, texture().expand(1, 2, -1, -1), EXPOSURES, gap, TOLD)[0, 0] == 1).all())


def test_still_texture_comes_out_as_the_witnesses_have_it_whatever_the_network_says() -> None:
    given = random_inputs(TINY)
    shown = torch.rand((1, 1, *given.frames.shape[-2:]), generator=torch.Generator().manual_seed(8))
    still = given._replace(
        witnesses=shown[:, :, None].expand_as(given.witnesses),
        frames=shown.expand(-1, 2, -1, -1) + torch.tensor([0.0, 1e-6])[:, None, None],
        number=torch.zeros_like(given.number),
    )
    with torch.no_grad():
        planes = trained_a_little()(*still)
    torch.testing.assert_close(planes, shown.expand_as(planes), atol=1e-4, rtol=0)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("height", "width"), [(16, 24), (15, 22), (4, 4)])
def test_opencv_gives_what_the_definition_does(height: int, width: int, whole: bool, alone: bool) -> None:
    evidence = random_evidence(TINY, height=height, width=width)
    observed = evidence.observed.clone().fill_(1)
    observed[1] = float(whole)
    exposures = evidence.exposures[:1].expand(2, -1, -1) if alone else evidence.exposures
    given = called_up(replace(evidence, observed=observed, exposures=exposures), TINY.padded(height, width))
    right = limits(given.number, given.frames, given.exposures, given.observed, given.told)[0]
    number = given.number.expm1().sum(1)[0].numpy()
    found = limits_of(
        number, tuple(given.frames[0].numpy()), float(given.told[0, 1]) / NOISE_TOLD, alone=alone, whole=whole
    )
    assert found.shape[0] == LIMITS
    torch.testing.assert_close(torch.from_numpy(found), right, atol=2e-5, rtol=1e-4)
