"""Neural film: the feature pyramid that an image will be exposed on (paper Sec. 4.4).

The paper's film is blank: a learned vector per level. A pre-exposed film already carries the frames, re-exposed
analytically to the asked shutter (the double integral); the network then only repairs what physics got wrong.
Images and re-exposures are square roots of linear light, which spreads noise evenly over dark and bright.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nire.integral import loops as plane_loops
from nire.network.config import NetworkConfig
from nire.network.pyramid import ConvPyramid, fold

# Of logarithms of trust, so that they are of a size with images.
_TRUST_SCALE = 0.25


class Slots(NamedTuple):
    """One or two estimates of each of n films, folded by u; a single one takes both slots.

    Attributes:
        light: two of float32 [n, u^2, H / u, W / u], encoded as images are.
        lead: float32 [n, u^2, H / u, W / u], logarithm of how many times the first is trusted more; None for a single.
        planes: [n, 2 u^2 + 2, H / u, W / u]: both lights, and their trust, averaged over u x u.
    """

    light: tuple[Tensor, Tensor]
    lead: Tensor | None
    planes: Tensor


def two_slots(re_exposed: Tensor, stride: int, dtype: torch.dtype) -> Slots:
    """Lay estimates out in two slots.

    Args:
        re_exposed: [b, Q, E, 2, H, W], E 1 or 2; light and the logarithm of its trust.
        stride: u, what to fold by.
        dtype: of `planes`.
    """
    if stride == 2 and plane_loops.serve(re_exposed):
        return _folded_in_two(re_exposed.flatten(0, 1), dtype)
    folded = fold(re_exposed.flatten(0, 1).float().unsqueeze(3), stride)  # [n, E, 2, u^2, H / u, W / u]
    (first, first_trust), (second, second_trust) = folded[:, 0].unbind(1), folded[:, -1].unbind(1)
    trusts = folded[:, :, 1].mean(2).mul_(_TRUST_SCALE)
    lead = None if re_exposed.shape[2] == 1 else first_trust - second_trust
    return Slots((first, second), lead, torch.cat((first, second, trusts[:, :1], trusts[:, -1:]), dim=1).to(dtype))


def _folded_in_two(re_exposed: Tensor, dtype: torch.dtype) -> Slots:
    """Do what `two_slots` does, for estimates [n, E, 2, H, W] folded by 2, in one pass."""
    n, count, _, height, width = re_exposed.shape
    planes = re_exposed.new_empty((n, 10, height // 2, width // 2))
    first, second, lead = re_exposed.new_empty((3, n, 4, height // 2, width // 2)).unbind()
    slots = first.numpy(), second.numpy(), lead.numpy(), planes.numpy()
    plane_loops.fold_slots(re_exposed.contiguous().numpy(), slots, _TRUST_SCALE)
    return Slots((first, second), None if count == 1 else lead, planes.to(dtype))


class NeuralFilm(nn.Module):
    """The film's initial pyramid {X_0^l}."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make the vectors, and the encoder of a pre-exposed film."""
        super().__init__()
        unshuffle = config.head_unshuffle
        self.scales = [stride // unshuffle for stride in config.strides]
        self.vectors = nn.ParameterList(nn.Parameter(0.02 * torch.randn(channels)) for channels in config.channels)
        self.pyramid = (
            ConvPyramid(
                2 * unshuffle**2 + 2, config.strides[0], config.channels, (0,) * len(config.channels), unshuffle
            )
            if config.film == "pre_exposed"
            else None
        )

    def forward(self, planes: Tensor) -> list[Tensor]:
        """Make Q films.

        Args:
            planes: [b * Q, 2 u^2 + 2, H / u, W / u] of `two_slots`, u = `head_unshuffle`; only its shape matters where
                the film is learned.

        Returns:
            Per level [b * Q, h, w, C_l].
        """
        if self.pyramid is None:
            n, _, height, width = planes.shape
            return [
                vector.expand(n, height // scale, width // scale, -1)
                for vector, scale in zip(self.vectors, self.scales, strict=True)
            ]
        levels = self.pyramid(planes)
        return [level.permute(0, 2, 3, 1) + vector for level, vector in zip(levels, self.vectors, strict=True)]
