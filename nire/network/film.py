"""Neural film: the feature pyramid that an image will be exposed on (paper Sec. 4.4).

The paper's film is blank: a learned vector per level. A pre-exposed film already carries the frames, re-exposed
analytically to the asked shutter (the double integral); the network then only repairs what physics got wrong.
Images and re-exposures are square roots of linear light, which spreads noise evenly over dark and bright.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nire.network.config import NetworkConfig
from nire.network.pyramid import ConvPyramid, fold


def two_slots(re_exposed: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Lay 0, 1 or 2 re-exposures out in two slots, folded: zeros, the one twice, or both in order of time.

    Args:
        re_exposed: [b, Q, N, 1, H, W].
        stride: what to fold by.

    Returns:
        Two of float32 [b * Q, stride^2, H / stride, W / stride].
    """
    frames = re_exposed.flatten(0, 1).squeeze(2).float()
    if frames.shape[1] == 0:
        frames = frames.new_zeros((frames.shape[0], 1, *frames.shape[2:]))
    first = fold(frames[:, :1], stride)
    return first, first if frames.shape[1] == 1 else fold(frames[:, 1:], stride)


class NeuralFilm(nn.Module):
    """The film's initial pyramid {X_0^l}."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make the vectors, and the encoder of a pre-exposed film."""
        super().__init__()
        self.scales = [stride // config.head_unshuffle for stride in config.strides]
        self.vectors = nn.ParameterList(nn.Parameter(0.02 * torch.randn(channels)) for channels in config.channels)
        self.pyramid = (
            ConvPyramid(2, config.strides[0], config.channels, (0,) * len(config.channels), config.head_unshuffle)
            if config.film == "pre_exposed"
            else None
        )

    def forward(self, pair: Tensor) -> list[Tensor]:
        """Make Q films.

        Args:
            pair: [b * Q, 2 u^2, H / u, W / u], both of `two_slots`, folded by u = `head_unshuffle`; only its shape
                matters where the film is learned.

        Returns:
            Per level [b * Q, h, w, C_l].
        """
        if self.pyramid is None:
            n, _, height, width = pair.shape
            return [
                vector.expand(n, height // scale, width // scale, -1)
                for vector, scale in zip(self.vectors, self.scales, strict=True)
            ]
        levels = self.pyramid(pair)
        return [level.permute(0, 2, 3, 1) + vector for level, vector in zip(levels, self.vectors, strict=True)]
