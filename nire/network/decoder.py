"""Decoder: an exposed film becomes an image, top-down (paper Sec. 4.4).

For a pre-exposed film the image is a blend of the re-exposed frames, weighted per frame and pixel, plus a residual;
both come from a light head at (nearly) full resolution. What neither frame shows is the residual's to paint.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nire.network.config import NetworkConfig
from nire.network.enhance import upsample
from nire.network.pyramid import ResidualBlock, fold, unfold

# How fast trust in a frame falls with the time between its exposure and the shutter, per window length, before
# training: at half a window between, e^5 to 1 for a frame whose exposure contains the shutter.
_DISTRUST = 10.0


class TopDownDecoder(nn.Module):
    """Level by level: upsample, fuse with the finer level, convolve; as in a feature pyramid network."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make the layers."""
        super().__init__()
        channels = config.channels
        self.smooth = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in channels[:-1])
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(c) for _ in range(count)))
            for c, count in zip(channels, config.decoder_blocks, strict=True)
        )

    def forward(self, film: list[Tensor]) -> Tensor:
        """Decode exposed films.

        Args:
            film: per level [n, C_l, h_l, w_l].

        Returns:
            [n, C_1, h_1, w_1].
        """
        fused = film[-1]
        for level in reversed(range(len(film))):
            fused = self.blocks[level](fused)
            if level:
                finer = film[level - 1] + upsample(self.narrow[level - 1](fused))
                fused = F.relu(self.smooth[level - 1](finer), inplace=True)
        return fused


class Head(nn.Module):
    """Three 3 x 3 convolutions over decoded features, and both re-exposures where there are any, that give the image.

    Their difference is not given: the first convolution is linear and takes it where it wants.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Make the layers; the last starts at zero, so that an untrained pre-exposed network gives the plain blend."""
        super().__init__()
        self.fold, width = config.head_unshuffle, config.head_channels
        self.scale = config.strides[0] // self.fold
        self.pre_exposed = config.film == "pre_exposed"
        coarse = max(4, width // 2) if self.scale > 1 else width
        self.widen = nn.Conv2d(config.channels[0], coarse * self.scale**2, 1)
        places = self.fold**2
        self.first = nn.Conv2d(coarse + (2 * places if self.pre_exposed else 0), width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 2 * places if self.pre_exposed else places, 3, padding=1)
        self.distrust = nn.Parameter(torch.tensor(_DISTRUST)) if self.pre_exposed else None
        if self.pre_exposed:
            for value in self.last.parameters():
                nn.init.zeros_(value)

    def forward(self, decoded: Tensor, pair: Tensor, slots: tuple[Tensor, Tensor], lead: Tensor | None) -> Tensor:
        """Develop the image.

        Args:
            decoded: [n, C_1, h_1, w_1].
            pair: both slots, one after the other, in the features' dtype.
            slots: of `two_slots`; they and `pair` are unused where the film is learned.
            lead: float32 [n, 1, H, 1 or W] of `lead_of_first`; None where there are not two frames to choose from.

        Returns:
            float32 [n, 1, H, W].
        """
        planes = [unfold(self.widen(decoded), self.scale)]
        if self.pre_exposed:
            planes.append(pair)
        features = F.relu(self.first(torch.cat(planes, dim=1)), inplace=True)
        features = F.relu(self.second(features), inplace=True)
        outputs = self.last(features).float()
        if self.distrust is None:
            return unfold(outputs, self.fold) + 0.5
        first, second = slots
        residual, logit = outputs.chunk(2, dim=1)
        if lead is None:
            return unfold(first + residual, self.fold)
        # The softmax over two frames is the sigmoid of the difference of their logits.
        trust = (logit + self.distrust.float() * fold_rows(lead, self.fold)).sigmoid()
        return unfold(torch.lerp(second, first, trust) + residual, self.fold)


def fold_rows(field: Tensor, stride: int) -> Tensor:
    """Fold [n, 1, H, W] as images are; [n, 1, H, 1], the same along rows, to [n, stride^2, H / stride, 1]."""
    return fold(field.expand(-1, -1, -1, stride) if field.shape[-1] == 1 else field, stride)


def lead_of_first(image_ranges: Tensor, shutters: Tensor) -> Tensor:
    """Measure how much nearer in time a shutter is to the first of two exposures than to the second.

    Args:
        image_ranges: float32 [b, 2, H, 2], normalised times per row.
        shutters: float32 [b, Q, H, 2] or [b, Q, H, W, 2].

    Returns:
        float32 [b * Q, 1, H, 1 or W]: time between the middle of the shutter and the second exposure, less that to the
        first; inside an exposure the time to it is 0.
    """
    middle = shutters.mean(-1)
    middle = (middle.unsqueeze(-1) if middle.ndim == 3 else middle).unsqueeze(2)
    opens, closes = image_ranges[:, None, :, :, :1], image_ranges[:, None, :, :, 1:]
    apart = torch.maximum(opens - middle, middle - closes).clamp_min(0.0).flatten(0, 1)
    return apart[:, 1:] - apart[:, :1]
