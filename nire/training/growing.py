"""A larger network of key planes that begins with what a smaller one has learned (Net2Net: Chen et al., 2016).

Each channel becomes several that say the same; whoever hears them gives each a share of the weight, drawn at random, so
that they part in training. New residual blocks add nothing at first. With as many bins the larger network's planes are
those of the smaller one; with more, planes in between begin with what the body says of both neighbours.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from nire.explicit.config import ExplicitConfig
from nire.explicit.network import CARRIED, SAID, TOLD, WITNESSES, Block, KeyPlaneNetwork

# How far the shares of copies differ from equal ones before they are made to add up to 1.
_APART = 0.5
# Numbers of a row: start and end of two exposures.
_EXPOSURES = 4


def can_grow(old: ExplicitConfig, new: ExplicitConfig) -> bool:
    """Tell whether one size can grow into another: bins and channels are multiples, blocks as many or more."""
    if len(old.channels) != len(new.channels):
        return False
    widths = ((c.bins, c.guide, c.head, *c.channels) for c in (old, new))
    depths = ((*c.encoder_blocks, *c.decoder_blocks) for c in (old, new))
    return all(after % before == 0 for before, after in zip(*widths, strict=True)) and all(
        after >= before for before, after in zip(*depths, strict=True)
    )


@torch.no_grad()
def grow(small: KeyPlaneNetwork, large: KeyPlaneNetwork) -> None:
    """Put what a network has learned into a larger one.

    Args:
        small: trained.
        large: takes its weights; on the CPU. Its sizes pass `can_grow`.
    """
    _Growth(small, large).copy()


class _Growth:
    """One network on its way into another."""

    def __init__(self, small: KeyPlaneNetwork, large: KeyPlaneNetwork) -> None:
        self._old, self._new = small.layers, large.layers
        self._bins = small.config.bins, large.config.bins
        # Each old channel several times: x' = D x, with D [new, old].
        sizes = zip(small.config.channels, large.config.channels, strict=True)
        self._channels = [_copies(old, new) for old, new in sizes]
        self._head = _copies(small.config.head, large.config.head)
        self._guide = _copies(small.config.guide, large.config.guide)

    def copy(self) -> None:
        self._copy_body()
        self._copy_head()

    def _copy_body(self) -> None:
        old, new, channels = self._old, self._new, self._channels
        bins, finer = self._bins[0], self._bins[1] // self._bins[0]
        planes = torch.zeros(bins + 1, self._bins[1] + 1)
        planes[torch.arange(bins + 1), finer * torch.arange(bins + 1)] = 1
        summed = torch.eye(bins).repeat_interleave(finer, 1)
        # In the order of `Folded.body` and `Folded.body_rows`.
        squares = torch.kron(planes, torch.eye(4))
        body = torch.block_diag(squares, squares, planes, summed / finer, summed, torch.eye(8))
        rows = torch.block_diag(summed / finer, torch.eye(_EXPOSURES + TOLD))
        _copy(old.stem, new.stem, channels[0], body)
        _copy(old.stem_rows, new.stem_rows, channels[0], rows)
        for level, (finer_map, coarser) in enumerate(pairwise(channels)):
            _copy_inner(old.down[level], new.down[level], coarser, finer_map)
        for level, (finer_map, coarser) in enumerate(pairwise(channels[1:])):
            _copy_inner(old.up[level], new.up[level], finer_map, coarser)
        for level, copies in enumerate(channels):
            _copy_blocks(old.encoder[level], new.encoder[level], copies)
        for level, copies in enumerate(channels[1:-1]):
            _copy_blocks(old.decoder[level], new.decoder[level], copies)

    def _copy_head(self) -> None:
        old, new, head = self._old, self._new, self._head
        seen = torch.ones(4 * WITNESSES + len(CARRIED) + 4)
        seen[-2:] = self._bins[1] // self._bins[0]  # shorter bins change less
        _copy(old.enter, new.enter, head, torch.diag(seen))
        _copy(old.enter_rows, new.enter_rows, head, torch.eye(_EXPOSURES + TOLD))
        _copy_inner(old.guide, new.guide, torch.kron(_between(*self._bins), self._guide), self._channels[1])
        _copy_inner(old.enter_guide, new.enter_guide, head, self._guide)
        _copy_inner(old.enter_stem, new.enter_stem, head, self._channels[0])
        _copy_inner(old.middle, new.middle, head, head)
        _copy_inner(old.leave, new.leave, torch.eye(SAID), head)


def _copies(old: int, new: int) -> Tensor:
    return torch.eye(old).repeat(new // old, 1)


def _between(old_bins: int, new_bins: int) -> Tensor:
    """Give planes of a finer grid by those of a coarser one, along straight lines: [new + 1, old + 1]."""
    at = torch.linspace(0, old_bins, new_bins + 1)[:, None]
    return (1 - (at - torch.arange(old_bins + 1)).abs()).clamp_min(0)


def _copy(old: nn.Module, new: nn.Module, says: Tensor, hears: Tensor) -> None:
    """Fill a convolution: it says x' = D x with `says` D, [new, old], and hears by w' = w P with `hears` P, [old, new].

    What it hears is as before where P times the D of what it hears is 1.
    """
    assert isinstance(old, nn.Conv2d)
    assert isinstance(new, nn.Conv2d)
    new.weight.copy_(torch.einsum("po,oiyx,ij->pjyx", says, old.weight, hears))
    if old.bias is not None and new.bias is not None:
        new.bias.copy_(says @ old.bias)


def _copy_inner(old: nn.Module, new: nn.Module, says: Tensor, copies: Tensor) -> None:
    """Fill a convolution that hears copies, by D of them, [new, old].

    Each listener shares its weight out differently: else copies would learn the same for ever.
    """
    _copy(old, new, says, copies.T)
    assert isinstance(new, nn.Conv2d)
    drawn = torch.empty(len(says), len(copies)).uniform_(1 - _APART, 1 + _APART)
    new.weight.mul_((drawn / (drawn @ copies @ copies.T))[:, :, None, None])


def _copy_blocks(old: nn.Module, new: nn.Module, copies: Tensor) -> None:
    assert isinstance(old, nn.Sequential)
    assert isinstance(new, nn.Sequential)
    for number, block in enumerate(new):
        assert isinstance(block, Block)
        if number < len(old):
            known = old[number]
            assert isinstance(known, Block)
            _copy_inner(known.first, block.first, copies, copies)
            _copy_inner(known.second, block.second, copies, copies)
        else:
            for value in block.second.parameters():
                value.zero_()
