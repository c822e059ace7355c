"""The network of the remembered content: events of a window in, planes of light out, and what it keeps in mind.

Events tell how light changes and never how bright it is. What they have told since the stream began tells more: an edge
that has passed leaves its two sides. So a window goes on from the light that the one before it ended with, carried by
events, and the network says how far that is still to be trusted, what it takes the light for itself, and what it keeps
in mind for the next window (a convolutional GRU at each stride but the finest; Ballas et al., 2016).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nire.explicit.network import Block, doubled, normalised
from nire.integral.double_integral import DARK_LEVEL
from nire.light import BRIGHTEST, UNKNOWN_LIGHT
from nire.network.pyramid import activate
from nire.recurrent.config import RecurrentConfig

GRAY = UNKNOWN_LIGHT**0.5
"""What a stream begins with, as square root of light."""
TOLD = 3
"""Numbers that the network is told of a window: `told`."""
_DARK = DARK_LEVEL / 255
# More change of log light in a window no image can show.
_LOG_LIMIT = 5.7
FORGOTTEN = 0.12
"""How far light is forgotten in a window before the network has learned."""


class Events(NamedTuple):
    """What the events of b windows tell.

    Attributes:
        change: float32 [b, K, H, W], change of log light in each bin.
        number: float32 [b, K, H, W], log(1 + events) of each bin.
        told: float32 [b, 3], of `told`.
    """

    change: Tensor
    number: Tensor
    told: Tensor


_FIELDS = len(Events._fields)


class RecurrentNetwork(nn.Module):
    """Says what was visible at the end of each bin, window after window."""

    def __init__(self, config: RecurrentConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.config = config
        self.layers = Layers(config)

    def forward(self, before: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        """Go on by one window.

        Args:
            before: float32 [b, H, W], square root of light at the window's start; `GRAY` where nothing is known. H and
                W are multiples of 2 to the number of strides.
            given: the fields of `Events`, then what the call before kept in mind; without it, a stream begins.

        Returns:
            float32 [b, K, H, W], square roots of light at the ends of the bins; then what is kept in mind.
        """
        events, mind = Events(*given[:_FIELDS]), given[_FIELDS:]
        maps = folded(before, events)
        said, *kept = self.layers(maps, events.told, *(mind or self.layers.nothing(maps)))
        return blended(before, events.change, said.float()), *kept


class Layers(nn.Module):
    """What is learned."""

    def __init__(self, config: RecurrentConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.config = config
        channels, bins = config.channels, config.bins
        self.stem = nn.Conv2d(5 * bins + 4, channels[0], 3, padding=1)
        self.stem_told = nn.Linear(TOLD, channels[0], bias=False)
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(channels)
        )
        self.minds = nn.ModuleList(Mind(count) for count in channels[1:])
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Block(c) for _ in range(n))) for c, n in zip(channels, config.blocks, strict=True)
        )
        self.leave = nn.Conv2d(channels[0], 8 * bins, 3, padding=1)
        for name, value in self.leave.named_parameters():
            nn.init.zeros_(value)
            if name == "bias":
                nn.init.constant_(value[4 * bins :], math.log(FORGOTTEN / (1 - FORGOTTEN)))

    def forward(self, maps: Tensor, told: Tensor, *mind: Tensor) -> tuple[Tensor, ...]:
        """Say what light is, how far what was known is forgotten, and what is kept in mind.

        Args:
            maps: [b, 5 K + 4, h, w], of `folded`.
            told: [b, 3].
            mind: a map for each stride but the finest.

        Returns:
            [b, 8 K, h, w] logits, of the light in the four pixels of each bin, and of how far the network is to be
            believed; then `mind` anew.
        """
        maps = maps.to(memory_format=torch.channels_last)
        levels = [activate(self.stem(maps) + self.stem_told(told)[:, :, None, None])]
        kept = []
        for down, remember, known in zip(self.down, self.minds, mind, strict=True):
            kept.append(remember(activate(down(normalised(levels[-1]))), known))
            levels.append(kept[-1])
        maps = self.blocks[-1](levels[-1])
        for level in range(len(levels) - 2, -1, -1):
            maps = self.blocks[level](levels[level] + doubled(self.up[level](normalised(maps))))
        return self.leave(activate(normalised(maps))), *kept

    def nothing(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Give what is in mind before the first window, of maps [b, 5 K + 4, h, w] of `folded`."""
        batch, _, height, width = maps.shape
        return tuple(
            maps.new_zeros((batch, count, height >> level, width >> level))
            for level, count in enumerate(self.config.channels[1:], 1)
        )


class Mind(nn.Module):
    """A convolutional gated recurrent unit: what is seen and what is known, to what will be known."""

    def __init__(self, channels: int) -> None:
        """Make the layers."""
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, seen: Tensor, known: Tensor) -> Tensor:
        """Map two [b, C, h, w] to one."""
        keep, reset = torch.sigmoid(self.gates(torch.cat([seen, known], 1))).chunk(2, 1)
        candidate = torch.tanh(self.candidate(torch.cat([seen, reset * known], 1)))
        return keep * known + (1 - keep) * candidate


def folded(before: Tensor, events: Events) -> Tensor:
    """Lay out what the layers see, at half resolution: [b, 5 K + 4, h, w]."""
    parts = [
        functional.pixel_unshuffle(events.change, 2),
        functional.avg_pool2d(events.number, 2),
        functional.pixel_unshuffle(before[:, None], 2) - GRAY,
    ]
    return torch.cat(parts, 1)


def blended(before: Tensor, change: Tensor, said: Tensor) -> Tensor:
    """Follow what `Layers` say: float32 [b, K, H, W], square roots of light at the ends of the bins.

    Args:
        before: float32 [b, H, W], at the window's start.
        change: float32 [b, K, H, W].
        said: float32 [b, 8 K, h, w].
    """
    light, believed = torch.sigmoid(functional.pixel_shuffle(said, 2)).chunk(2, 1)
    return torch.lerp(carried(before, change), light, believed)


def carried(before: Tensor, change: Tensor) -> Tensor:
    """Carry light to the ends of the bins by events: [b, H, W], [b, K, H, W] -> [b, K, H, W], square roots."""
    gain = change.cumsum(1).clamp(-_LOG_LIMIT, _LOG_LIMIT).exp()
    return ((before.square()[:, None] + _DARK) * gain - _DARK).clamp(1e-6, BRIGHTEST**2).sqrt()


def length_of(numbers: Tensor) -> float:
    """Give the length of a window, us, that was told by numbers [1, 3] of `told`."""
    return 40_000 * math.exp(float(numbers[0, 2]))


def told(positive: Tensor, negative: Tensor, window_us: Tensor) -> Tensor:
    """Scale what the network is told of windows to be around 1: both thresholds and the length, [b] -> [b, 3]."""
    return torch.stack([4 * positive, 4 * negative, (window_us / 40_000).log()], 1)
