"""Feature enhancement: levels and windows interact (paper Sec. 4.2, Fig. 5).

The l-th level is fused with the upsampled (l+1)-th by addition, and a deformable convolution processes the sum.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nire.network.config import NetworkConfig


class DeformableConv(nn.Module):
    """Convolution whose taps are moved, at each place, by offsets that are computed there (Dai et al., 2017).

    In plain torch: sampling by `grid_sample`, then one 1 x 1 convolution over all taps. Offsets start at zero and the
    kernel as the identity, so an untrained one changes nothing.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        """Make the layers.

        Args:
            channels: in and out.
            kernel: side, odd.
        """
        super().__init__()
        self.kernel = kernel
        self.offsets = nn.Conv2d(channels, 2 * kernel**2, 3, padding=1)
        self.weight = nn.Parameter(torch.empty(channels, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        for value in self.offsets.parameters():
            nn.init.zeros_(value)
        nn.init.dirac_(self.weight)

    def forward(self, maps: Tensor) -> Tensor:
        """Map [n, C, h, w] to the same shape; offsets are computed from `maps` themselves."""
        return self.sample(maps, self.offsets(maps))

    def sample(self, maps: Tensor, offsets: Tensor) -> Tensor:
        """Convolve at displaced taps; outside the map is zero.

        Args:
            maps: [n, C, h, w].
            offsets: [n, 2 k^2, h, w], (dy, dx) in tokens for each tap, taps row by row.

        Returns:
            [n, C, h, w].
        """
        n, channels, h, w = maps.shape
        taps = self.kernel**2
        grid = self._grid(offsets).reshape(n, h, w * taps, 2)
        # The grid stays float32: bfloat16 would misplace taps by a third of a pixel at 346 columns.
        taken = F.grid_sample(maps.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        taken = taken.to(maps.dtype).permute(0, 2, 3, 1).reshape(-1, taps * channels)
        weight = self.weight.permute(0, 2, 3, 1).reshape(channels, taps * channels)
        return F.linear(taken, weight, self.bias).reshape(n, h, w, channels).permute(0, 3, 1, 2)

    def _grid(self, offsets: Tensor) -> Tensor:
        """Place every tap: float32 [n, h, w, k^2, 2], (x, y) from -1 at the map's first edge to 1 at its last.

        Not from the first pixel's centre to the last's (`align_corners`): in a map of one row these span nothing.
        """
        h, w = offsets.shape[2:]
        device = offsets.device
        reach = torch.arange(self.kernel, dtype=torch.float32, device=device) - self.kernel // 2
        moved = offsets.float().permute(0, 2, 3, 1).unflatten(-1, (self.kernel, self.kernel, 2))
        rows = torch.arange(h, dtype=torch.float32, device=device)[:, None, None, None] + reach[:, None]
        columns = torch.arange(w, dtype=torch.float32, device=device)[:, None, None] + reach
        y = (moved[..., 0] + (rows + 0.5)) * (2 / h) - 1
        x = (moved[..., 1] + (columns + 0.5)) * (2 / w) - 1
        return torch.stack((x, y), dim=-1).flatten(3, 4)


class FeatureEnhancement(nn.Module):
    """Top-down through a pyramid: the coarsest level stays, every finer one is fused with the enhanced one above."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make the layers."""
        super().__init__()
        pairs = list(pairwise(config.channels))
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        self.deform = nn.ModuleList(DeformableConv(fine, config.enhance_kernel) for fine, _ in pairs)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Enhance each of n maps by itself.

        Args:
            levels: per level [n, C_l, h_l, w_l], finest first.

        Returns:
            The same shapes.
        """
        enhanced = list(levels)
        for level in reversed(range(len(levels) - 1)):
            coarser = self.narrow[level](enhanced[level + 1])
            enhanced[level] = self.deform[level](levels[level] + upsample(coarser))
        return enhanced


def upsample(maps: Tensor) -> Tensor:
    """Double height and width, bilinearly."""
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
