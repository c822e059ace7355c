"""What a smaller network has learned, in a larger one: the same planes at first, and copies that part in training."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from nire.explicit.config import NANO, SMALL
from nire.explicit.network import Inputs, KeyPlaneNetwork
from nire.training.growing import can_grow, grow
from tests.nire.explicit.inputs import TINY, random_inputs, trained_a_little

WIDER = dataclasses.replace(
    TINY, size="wider", channels=(16, 24, 36), encoder_blocks=(1, 1, 2), decoder_blocks=(2,), guide=6, head=16
)


def grown(larger: KeyPlaneNetwork) -> KeyPlaneNetwork:
    grow(trained_a_little(), larger)
    return larger.eval()


def halved(given: Inputs) -> Inputs:
    """Cut each bin into two halves of the same events, with a plane between that is the mean of its neighbours."""

    def between(planes: torch.Tensor) -> torch.Tensor:
        pairs = torch.stack([planes[:, :-1], (planes[:, :-1] + planes[:, 1:]) / 2], 2).flatten(1, 2)
        return torch.cat([pairs, planes[:, -1:]], 1)

    return given._replace(
        witnesses=between(given.witnesses),
        trust=between(given.trust),
        change=given.change.repeat_interleave(2, 1) / 2,
        number=given.number.repeat_interleave(2, 1),
        observed=given.observed.repeat_interleave(2, 1),
    )


def test_grown_network_gives_the_planes_of_the_smaller_one() -> None:
    given = random_inputs(TINY, batch=2)
    with torch.no_grad():
        torch.testing.assert_close(grown(KeyPlaneNetwork(WIDER))(*given), trained_a_little()(*given))


def test_with_more_bins_it_gives_the_same_planes_at_the_same_times() -> None:
    given, finer = random_inputs(TINY), dataclasses.replace(WIDER, bins=8)
    given.number.mul_(10)  # so many that all the network may do is done
    with torch.no_grad():
        planes = grown(KeyPlaneNetwork(finer))(*halved(given))
        torch.testing.assert_close(planes[:, ::2], trained_a_little()(*given), atol=1e-4, rtol=1e-4)
    assert planes.shape[1] == 9


def test_copies_of_a_channel_learn_different_things() -> None:
    network = grown(KeyPlaneNetwork(WIDER)).train()
    network(*random_inputs(TINY)).square().mean().backward()
    assert network.layers.middle.weight.grad is not None
    first, second = network.layers.middle.weight.grad.unflatten(0, (2, -1)).unbind()
    assert (first / first.norm() - second / second.norm()).norm() > 0.02


@pytest.mark.parametrize(
    "change",
    [
        {"bins": 6},
        {"channels": (16, 24, 36, 36), "encoder_blocks": (0, 1, 0, 0), "decoder_blocks": (1, 1)},
        {"channels": (16, 24, 30)},
        {"head": 12},
        {"encoder_blocks": (0, 0, 0)},
    ],
    ids=["bins", "strides", "channels", "head", "blocks"],
)
def test_sizes_that_are_no_multiples_do_not_grow(change: dict[str, Any]) -> None:
    assert can_grow(TINY, WIDER)
    assert not can_grow(TINY, dataclasses.replace(WIDER, **change))


def test_sizes_that_ship_grow_from_one_another() -> None:
    assert can_grow(NANO, SMALL)
    assert not can_grow(SMALL, NANO)
