"""The network of the explicit content: witnesses of light at key times in, clean planes of light out.

At each key time five witnesses tell what was visible: the frame before and the frame after, each carried in time by
events, both moved along optical flow, and what the window before ended with, carried on by events. A body sees all key
times at once at half resolution and coarser; a head that is the same for every key time sees the witnesses, and what
the body says of that time. It tells how far each witness is to be trusted, which details are noise, and what else is
to be corrected (paper Eqs. 6 and 7: the body is g, a plane is a film, the head is f).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nire.explicit.config import ExplicitConfig
from nire.explicit.details import SIZES_CALMED, calmed
from nire.explicit.limits import limits
from nire.network.pyramid import ResidualBlock, activate

WITNESSES = 5
"""Frame before and after by events, frame before and after by flow, and the last plane of the window before."""
BY_EVENTS, BY_FLOW, ROLLED = slice(0, 2), slice(2, 4), 4
"""Their places."""
CARRIED = (0, 1, ROLLED)
"""Those that events carry, whose trust differs from pixel to pixel."""
CUT = -9.9
"""A witness whose logarithm of trust is not above this must not be heard."""
SAID = 4 + WITNESSES + SIZES_CALMED
"""Numbers that the layers say of four pixels of a plane: `blended`."""
TOLD = 6
"""Numbers that the network is told of a window: `Inputs.told`."""
PRIOR = (0.0, 0.0, -2.0, -2.0, -2.0)
"""What is added to the witnesses' logarithm of trust before the network has learned: only what events carry from a
frame of the window is trusted in full. Shipped weights learned with -1 for the last one; real recordings bear more with
-2, where errors of clocks and events add up from window to window."""
SHUT = -30.0
"""The logarithm of trust of one that must not be heard."""
LEAST_LIGHT = 1e-9
"""Light of a mean at least, of white, before its root is taken, whose slope has no bound at 0: far below a level."""
MOST_SWAYED = 6.0
"""How far the network may move a witness's logarithm of trust."""
# Whose sigmoid is how far details are calmed before the network has learned: little, but it is felt in training.
_CALMED_AT_FIRST = -4.0
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
        told: float32 [b, 6]: noise (`noise_levels`), both thresholds, logarithm of the window's length, and how many
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


class Folded(NamedTuple):
    """What the layers see: everything at half resolution, h = H / 2 and w = W / 2, and what is the same along a row.

    Attributes:
        body: float32 [b, 9 (K + 1) + 2 K + 8, h, w]. For each plane the four pixels of the witnesses by events, mixed;
            how far witnesses differ, before from after, by events and by flow, events from flow and from the rolled
            one; and the trust. Then events of each bin, their change, and the four pixels of both frames.
        body_rows: float32 [b, K + 4 + 6, h, 1]: which bins are observed, exposures, and what is told.
        head: float32 [b (K + 1), 27, h, w]: four pixels of five witnesses; trust of those by events and of the rolled
            one; events of the bins around, and their change.
        head_rows: float32 [b (K + 1), 4 + 6, h, 1]: time since starts and ends of exposures, and what is told.
    """

    body: Tensor
    body_rows: Tensor
    head: Tensor
    head_rows: Tensor


class KeyPlaneNetwork(nn.Module):
    """Cleans key planes."""

    def __init__(self, config: ExplicitConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.config = config
        self.layers = Layers(config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Clean the planes of b windows.

        Args:
            inputs: the fields of `Inputs`; H and W are multiples of 2 to the number of strides.

        Returns:
            float32 [b, K + 1, H, W], square roots of linear light.
        """
        given = Inputs(*inputs)
        return blended(given, self.layers(*folded(given)).float())


class Layers(nn.Module):
    """What is learned: a body that sees all key times at once, and a head that is the same for each of them."""

    def __init__(self, config: ExplicitConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.config = config
        channels, planes, head = config.channels, config.planes, config.head
        self.stem = nn.Conv2d(9 * planes + 2 * config.bins + 8, channels[0], 1)
        self.stem_rows = nn.Conv2d(config.bins + 4 + TOLD, channels[0], 1, bias=False)
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(channels)
        )
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels[1:]))
        self.encoder = nn.ModuleList(_blocks(c, n) for c, n in zip(channels, config.encoder_blocks, strict=True))
        self.decoder = nn.ModuleList(_blocks(c, n) for c, n in zip(channels[1:-1], config.decoder_blocks, strict=True))
        self.guide = nn.Conv2d(channels[1], planes * config.guide, 1)
        self.enter = nn.Conv2d(4 * WITNESSES + len(CARRIED) + 4, head, 1)
        self.enter_rows = nn.Conv2d(4 + TOLD, head, 1, bias=False)
        self.enter_guide = nn.Conv2d(config.guide, head, 1, bias=False)
        self.enter_stem = nn.Conv2d(channels[0], head, 1, bias=False)
        self.middle = nn.Conv2d(head, head, 3, padding=1)
        self.leave = nn.Conv2d(head, SAID, 3, padding=1)
        for name, value in self.leave.named_parameters():
            nn.init.zeros_(value)
            if name == "bias":
                nn.init.constant_(value[-SIZES_CALMED:], _CALMED_AT_FIRST)

    def forward(self, *maps: Tensor) -> Tensor:
        """Say what is to be corrected, and how far each witness is to be trusted.

        Args:
            maps: the fields of `Folded`.

        Returns:
            [b, K + 1, SAID, h, w], which `blended` follows.
        """
        seen = Folded(*(part.to(memory_format=torch.channels_last) for part in maps))
        stemmed, coarse = self._body(seen)
        b, planes = len(stemmed), self.config.planes
        # A convolution of single pixels may come before the resolution is doubled as well as after.
        guide = self.guide(normalised(coarse)).unflatten(1, (planes, -1)).flatten(0, 1)
        shared = self.enter_stem(normalised(stemmed))
        if b > 1:
            shared = shared.repeat_interleave(planes, 0)
        own = self.enter(seen.head) + self.enter_rows(seen.head_rows) + doubled(self.enter_guide(guide)) + shared
        said = self.leave(activate(self.middle(activate(own))))
        # So that what a step of training changes of the trust does not grow with how far it may move; and a sigmoid of
        # what calms is a hyperbolic tangent of its half.
        each = [1.0] * 4 + [1 / MOST_SWAYED] * WITNESSES + [0.5] * SIZES_CALMED
        scales = torch.tensor(each, dtype=said.dtype, device=said.device)
        return (said * scales[:, None, None]).unflatten(0, (b, planes))

    def _body(self, seen: Folded) -> tuple[Tensor, Tensor]:
        """See all key times at once: maps [b, C, h, w] and [b, C, h / 2, w / 2]."""
        maps = self.encoder[0](activate(self.stem(seen.body) + self.stem_rows(seen.body_rows)))
        levels = [maps]
        for down, blocks in zip(self.down, list(self.encoder)[1:], strict=True):
            levels.append(blocks(activate(down(normalised(levels[-1])))))
        maps = levels[-1]
        for level in range(len(levels) - 2, 0, -1):
            maps = self.decoder[level - 1](levels[level] + doubled(self.up[level - 1](normalised(maps))))
        return levels[0], maps


def folded(given: Inputs) -> Folded:
    """Lay out what the layers see; differentiable, on any device."""
    planes, height = given.witnesses.shape[1], given.witnesses.shape[3]
    heard = prior(given)
    by_events, by_flow = (_mixed(given.witnesses[:, :, pair], heard[:, :, pair]) for pair in (BY_EVENTS, BY_FLOW))
    differences = torch.stack(
        [
            given.witnesses[:, :, 0] - given.witnesses[:, :, 1],
            given.witnesses[:, :, 2] - given.witnesses[:, :, 3],
            by_events - by_flow,
            by_events - given.witnesses[:, :, ROLLED],
        ],
        2,
    ).abs()
    trust = functional.avg_pool2d(given.trust[:, :, CARRIED].flatten(1, 2).clamp_min(CUT), 2) * 0.25
    trust = trust.unflatten(1, (planes, -1))
    number, change = (functional.avg_pool2d(bins, 2) for bins in (given.number, given.change))
    body = [
        functional.pixel_unshuffle(by_events, 2),
        functional.avg_pool2d(differences.flatten(1, 2), 2),
        trust[:, :, BY_EVENTS].amax(2),
        number,
        change,
        functional.pixel_unshuffle(given.frames, 2),
    ]
    exposures = exposure_rows(given.exposures)
    told = given.told[:, :, None, None].expand(-1, -1, height // 2, -1)
    observed = given.observed[:, :, None, None].expand(-1, -1, height // 2, -1)
    head = [
        functional.pixel_unshuffle(given.witnesses.flatten(0, 1), 2), trust.flatten(0, 1),
        _around(number), _around(change),
    ]  # fmt: skip
    times = torch.linspace(0, 1, planes, device=told.device)[None, :, None, None, None]
    since = times - exposures[:, None]
    return Folded(
        torch.cat(body, 1),
        torch.cat([observed, exposures, told], 1),
        torch.cat(head, 1),
        torch.cat([since, told[:, None].expand(-1, planes, -1, -1, -1)], 2).flatten(0, 1),
    )


def blended(given: Inputs, said: Tensor) -> Tensor:
    """Follow what `Layers` say: planes [b, K + 1, H, W].

    Args:
        given: to the network.
        said: float32 [b, K + 1, SAID, h, w]. Its hyperbolic tangent is what is added to each of the four pixels; then a
            share of `MOST_SWAYED`, by which the logarithm of the trust in each witness changes; and how far details of
            each size are calmed, from -1, not at all, to 1. All of it counts as far as `limits` allow.
    """
    # Bounded, because what saturates learns nothing more.
    added, swayed, calm = torch.tanh(said).split([4, WITNESSES, SIZES_CALMED], 2)
    allowed = limits(given.number, given.frames, given.exposures, given.observed, given.told)[:, None]
    moved, noise = allowed[:, :, :1], allowed[:, :, 1:]
    swayed = MOST_SWAYED * moved * swayed
    swayed = functional.interpolate(swayed.flatten(1, 2), scale_factor=2.0).view_as(given.witnesses)
    # Light adds up, its square root does not: a mean of roots would be darker the more they differ.
    light = (functional.softmax(prior(given) + swayed, 2) * given.witnesses.square()).sum(2)
    light = calmed(light, noise * (1 + calm) / 2)
    return light.clamp_min(LEAST_LIGHT).sqrt() + functional.pixel_shuffle(moved * added, 2)[:, :, 0]


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
    bias = torch.tensor(PRIOR, device=given.trust.device)[:, None, None]
    return torch.where(given.trust <= CUT, SHUT, given.trust + bias)


def _mixed(witnesses: Tensor, heard: Tensor) -> Tensor:
    """Blend two witnesses [b, K + 1, 2, H, W] by how far they are trusted."""
    return (witnesses * functional.softmax(heard, 2)).sum(2)


def _around(bins: Tensor) -> Tensor:
    """Give each plane the bin before and the bin after it: [b, K, h, w] -> [b (K + 1), 2, h, w]."""
    nothing = torch.zeros_like(bins[:, :1])
    before, after = torch.cat([nothing, bins], 1), torch.cat([bins, nothing], 1)
    return torch.stack([before, after], 2).flatten(0, 1)


def exposure_rows(exposures: Tensor) -> Tensor:
    """Lay exposures [b, 2, H, 2] out as rows [b, 4, h, 1]: start and end of the first, then of the second."""
    return exposures.unflatten(2, (-1, 2)).mean(3).transpose(2, 3).flatten(1, 2)[..., None]


def doubled(maps: Tensor) -> Tensor:
    """Double the resolution, by straight lines."""
    return functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels) for _ in range(count)))
