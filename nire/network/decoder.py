"""Decoder: an exposed film becomes an image, top-down (paper Sec. 4.4).

For a pre-exposed film the image is a blend of the re-exposed frames, weighted per frame and pixel, plus a residual.
The blend starts from how far physics trusts each frame, and a light head at (nearly) full resolution corrects it; what
neither frame shows is the residual's to paint.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from nire.network.config import NetworkConfig
from nire.network.enhance import upsample
from nire.network.film import Slots
from nire.network.pyramid import ResidualBlock, activate, unfold, unfold_planes


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
                fused = activate(self.smooth[level - 1](finer))
        return fused


class Head(nn.Module):
    """Three 3 x 3 convolutions over decoded features, and both re-exposures where there are any, that give the image.

    Their difference is not given: the first convolution is linear and takes it where it wants.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Make the layers; the last starts at zero, so that an untrained pre-exposed network blends by trust."""
        super().__init__()
        self.fold, width = config.head_unshuffle, config.head_channels
        self.scale = config.strides[0] // self.fold
        self.pre_exposed = config.film == "pre_exposed"
        coarse = max(4, width // 2) if self.scale > 1 else width
        self.widen = nn.Conv2d(config.channels[0], coarse * self.scale**2, 1)
        places = self.fold**2
        self.first = nn.Conv2d(coarse + (2 * places + 2 if self.pre_exposed else 0), width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 2 * places if self.pre_exposed else places, 3, padding=1)
        self.belief = nn.Parameter(torch.ones(())) if self.pre_exposed else None
        if self.pre_exposed:
            for value in self.last.parameters():
                nn.init.zeros_(value)

    def forward(self, decoded: Tensor, planes: Tensor) -> Tensor:
        """Say what the image needs.

        Args:
            decoded: [n, C_1, h_1, w_1].
            planes: of `two_slots`, folded by `head_unshuffle`, u; unused where the film is learned.

        Returns:
            float32 [n, 2 u^2, H / u, W / u], residual and logit of the blend; [n, u^2, H / u, W / u], the image, where
            the film is learned.
        """
        inputs = [unfold(self.widen(decoded), self.scale)]
        if self.pre_exposed:
            inputs.append(planes)
        features = activate(self.second(activate(self.first(torch.cat(inputs, dim=1)))))
        outputs: Tensor = self.last(features).float()
        return outputs

    def develop(self, outputs: Tensor, slots: Slots) -> Tensor:
        """Develop the image.

        Args:
            outputs: of `forward`.
            slots: of `two_slots`; unused where the film is learned.

        Returns:
            float32 [n, 1, H, W].
        """
        if self.belief is None:
            return unfold_planes(outputs, self.fold) + 0.5
        first, second = slots.light
        residual, logit = outputs.contiguous().chunk(2, dim=1)
        if slots.lead is None:
            return unfold_planes(first + residual, self.fold)
        # The softmax over two frames is the sigmoid of the difference of their logits.
        share = (logit + self.belief.float() * slots.lead).sigmoid()
        return unfold_planes(torch.lerp(second, first, share) + residual, self.fold)
