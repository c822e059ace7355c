"""The network of the explicit content: witnesses of light at key times in, clean planes of light out.

At each key time five witnesses tell what was visible: the frame before and the frame after, each carried in time by
events, both moved along optical flow, and what the window before ended with, carried on by events. A body sees all key
times at once at half resolution and coarser; a head that is the same for every key time sees the witnesses, and what
the body says of that time. It tells how far each witness is to be trusted, and what is to be corrected (paper Eqs. 6
and 7: the body is g, a plane is a film, the head is f).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nire.explicit.config import ExplicitConfig
from nire.network.pyramid import ResidualBlock, activate

WITNESSES = 5
"""Frame before and after by events, frame before and after by flow, and the last plane of the window before."""
BY_EVENTS, BY_FLOW, ROLLED = slice(0, 2), slice(2, 4), 4
"""Their places."""
CUT = -9.9
"""A witness whose logarithm of trust is not above this must not be heard."""
TOLD = 6
"""Numbers that the network is told of a window: `Inputs.told`."""
# What is added to the witnesses' logarithm of trust before the network has learned: flow is trusted little.
_PRIOR = (0.0, 0.0, -2.0, -2.0, -1.0)
_SHUT = -30.0
# How far the network may move a witness's logarithm of trust.
_MOST_SWAYED = 6.0
_LEAST_POWER = 1e-4


class Inputs(NamedTuple):
    """What the network takes, of b windows; images are square roots of linear light.

    Attributes:
        witnesses: float32 [b, K + 1, 5, H, W], 0..1.5.
        trust: float32 [b, K + 1, 5, H, W], their logarithm of trust; `CUT` or less where one must not be heard.
        change: float32 [b, K, H, W], change of log light that the events of each bin tell.
        number: float32 [b, K, H, W], log(1 + events of each bin).
        frames: float32 [b, 2, H, W], captured; a single one twice.
        exposures: float32 [b, 2, H, 2], start and end of the rows' exposures, in windows.
        observed: float32 [b, K], 0 in bins whose events are missing, else 1.
        told: float32 [b, 6]: noise of each frame, both thresholds, logarithm of the window's length, and how many
            windows the rolled witness goes back, by its logarithm, 0 where there is none (`scaled`).
    """

    witnesses: Tensor
    trust: Tensor
    change: Tensor
    number: Tensor
    frames: Tensor
    exposures: Tensor
    observed: Tensor
    told: Tensor


class KeyPlaneNetwork(nn.Module):
    """Cleans key planes."""

    def __init__(self, config: ExplicitConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.config = config
        channels, planes = config.channels, config.planes
        self.stem = nn.Conv2d(9 * planes + 3 * config.bins + 12 + TOLD, channels[0], 1)
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(channels)
        )
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels[1:]))
        self.encoder = nn.ModuleList(_blocks(c, n) for c, n in zip(channels, config.encoder_blocks, strict=True))
        self.decoder = nn.ModuleList(_blocks(c, n) for c, n in zip(channels[1:-1], config.decoder_blocks, strict=True))
        self.guide = nn.Conv2d(channels[1], planes * config.guide, 1)
        self.fine = nn.Conv2d(channels[0], config.guide, 1)
        head = config.head
        self.enter = nn.Conv2d(4 * WITNESSES + 3 + 4 + 4 + TOLD + 2 * config.guide, head, 1)
        self.middle = nn.Conv2d(head, head, 3, padding=1)
        self.leave = nn.Conv2d(head, 4 + WITNESSES, 3, padding=1)
        for value in self.leave.parameters():
            nn.init.zeros_(value)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Clean the planes of b windows.

        Args:
            inputs: the fields of `Inputs`; H and W are multiples of 2 to the number of strides.

        Returns:
            float32 [b, K + 1, H, W], square roots of linear light.
        """
        given = Inputs(*inputs)
        b, planes, _, height, width = given.witnesses.shape
        heard = prior(given)
        shares = functional.softmax(heard, 2)
        folded = functional.pixel_unshuffle(given.witnesses.flatten(0, 1), 2)
        by_events = given.trust[:, :, [0, 1, ROLLED]].flatten(0, 1).clamp_min(CUT)
        trust = functional.avg_pool2d(by_events, 2) * 0.25
        told = given.told[:, :, None, None].expand(-1, -1, height // 2, width // 2)
        stemmed, coarse = self._body(given, shares, trust, told)
        guide = _doubled(self.guide(normalised(coarse))).reshape(b * planes, self.config.guide, height // 2, width // 2)
        shared = self.fine(normalised(stemmed))[:, None].expand(-1, planes, -1, -1, -1).flatten(0, 1)
        around = [_around(functional.avg_pool2d(bins, 2)) for bins in (given.number, given.change)]
        times = torch.linspace(0, 1, planes, device=told.device)[None, :, None, None, None]
        since = (times - _exposures(given.exposures, width)[:, None]).flatten(0, 1)
        told = told[:, None].expand(-1, planes, -1, -1, -1).flatten(0, 1)
        parts = [folded, trust, *around, since, told, guide, shared]
        maps = torch.cat([part.to(folded.dtype) for part in parts], 1).contiguous(memory_format=torch.channels_last)
        corrections = self.leave(activate(self.middle(activate(self.enter(maps)))))
        residual, swayed = corrections.float().split([4, WITNESSES], 1)
        # Bounded, because what saturates learns nothing more.
        swayed = _MOST_SWAYED * torch.tanh(swayed / _MOST_SWAYED)
        residual = functional.pixel_shuffle(torch.tanh(residual), 2).view(b, planes, height, width)
        swayed = functional.interpolate(swayed, scale_factor=2.0).view(b, planes, WITNESSES, height, width)
        blended = (functional.softmax(heard + swayed, 2) * given.witnesses).sum(2)
        return blended + residual

    def _body(self, given: Inputs, shares: Tensor, trust: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """See all key times at once: maps [b, C, H / 2, W / 2] and [b, C, H / 4, W / 4]."""
        b, planes, _, height, width = given.witnesses.shape
        by_events = _mixed(given.witnesses[:, :, BY_EVENTS], shares[:, :, BY_EVENTS])
        by_flow = _mixed(given.witnesses[:, :, BY_FLOW], shares[:, :, BY_FLOW])
        differences = torch.stack(
            [
                given.witnesses[:, :, 0] - given.witnesses[:, :, 1],
                given.witnesses[:, :, 2] - given.witnesses[:, :, 3],
                by_events - by_flow,
                by_events - given.witnesses[:, :, ROLLED],
            ],
            2,
        ).abs()
        per_plane = [
            functional.pixel_unshuffle(by_events, 2),
            functional.avg_pool2d(differences.flatten(1, 2), 2),
            trust.reshape(b, planes, 3, height // 2, width // 2)[:, :, BY_EVENTS].amax(2),
        ]
        per_bin = [
            functional.avg_pool2d(given.number, 2),
            functional.avg_pool2d(given.change, 2),
            given.observed[:, :, None, None].expand(-1, -1, height // 2, width // 2),
        ]
        frames = [functional.pixel_unshuffle(given.frames, 2), _exposures(given.exposures, width)]
        maps = torch.cat([*per_plane, *per_bin, *frames, told], 1).contiguous(memory_format=torch.channels_last)
        maps = self.encoder[0](activate(self.stem(maps)))
        levels = [maps]
        for down, blocks in zip(self.down, list(self.encoder)[1:], strict=True):
            levels.append(blocks(activate(down(normalised(levels[-1])))))
        maps = levels[-1]
        for level in range(len(levels) - 2, 0, -1):
            maps = self.decoder[level - 1](levels[level] + _doubled(self.up[level - 1](normalised(maps))))
        return levels[0], maps


class Block(ResidualBlock):
    """A residual block that sees what it is given divided by its size."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map [n, C, h, w] to the same shape."""
        return maps + self.second(activate(self.first(normalised(maps))))


def normalised(maps: Tensor) -> Tensor:
    """Divide each pixel's channels by their root mean square (Zhang and Sennrich, 2019): [n, C, h, w].

    A stack of layers that multiply grows without bound in training; pixel by pixel, so that a crop teaches what a whole
    image needs.
    """
    size = maps.float().square().mean(1, keepdim=True).add(_LEAST_POWER).rsqrt()
    return maps * size.to(maps.dtype)


def prior(given: Inputs) -> Tensor:
    """Give how far the witnesses are trusted before the network says anything: logits [b, K + 1, 5, H, W]."""
    bias = torch.tensor(_PRIOR, device=given.trust.device)[:, None, None]
    return torch.where(given.trust <= CUT, _SHUT, given.trust + bias)


def _mixed(witnesses: Tensor, shares: Tensor) -> Tensor:
    """Blend [b, K + 1, n, H, W] by shares that need not sum to 1."""
    return (witnesses * shares).sum(2) / shares.sum(2).clamp_min(1e-6)


def _around(bins: Tensor) -> Tensor:
    """Give each plane the bin before and the bin after it: [b, K, h, w] -> [b (K + 1), 2, h, w]."""
    nothing = torch.zeros_like(bins[:, :1])
    before, after = torch.cat([nothing, bins], 1), torch.cat([bins, nothing], 1)
    return torch.stack([before, after], 2).flatten(0, 1)


def _exposures(exposures: Tensor, width: int) -> Tensor:
    """Lay exposures [b, 2, H, 2] out as maps [b, 4, H / 2, W / 2]."""
    rows = exposures.unflatten(2, (-1, 2)).mean(3)
    return rows.transpose(2, 3).flatten(1, 2)[..., None].expand(-1, -1, -1, width // 2)


def _doubled(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels) for _ in range(count)))
