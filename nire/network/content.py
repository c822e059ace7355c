"""Visual content: M + N feature pyramids refined by temporalized attention and enhancement (paper Sec. 4.3, Fig. 3)."""

from __future__ import annotations

from torch import Tensor, nn

from nire.network.attention import AttentionPyramid
from nire.network.config import NetworkConfig
from nire.network.enhance import FeatureEnhancement


def enhance_maps(enhancement: nn.Module, levels: list[Tensor]) -> list[Tensor]:
    """Enhance maps in the attention's layout: per level [b, n, h, w, C], to the same shapes."""
    lead = levels[0].shape[:2]
    flat = [level.flatten(0, 1).permute(0, 3, 1, 2) for level in levels]
    return [level.permute(0, 2, 3, 1).unflatten(0, lead) for level in enhancement(flat)]


class ContentConstructor(nn.Module):
    """What comes after the encoders: the maps of all segments and images interact, level by level."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.attention = nn.ModuleList(
            AttentionPyramid(config, config.content_levels) for _ in range(config.content_blocks)
        )
        self.enhancement = nn.ModuleList(
            FeatureEnhancement(config) for _ in range(config.content_blocks if config.use_enhancement else 0)
        )

    def forward(self, levels: list[Tensor], times: list[Tensor]) -> list[Tensor]:
        """Refine the content.

        Args:
            levels: per level [b, n, h, w, C_l], E_1 .. E_M, I_1 .. I_N.
            times: per level [b, n, h, 1, 4 K], encodings of the maps' ranges.

        Returns:
            The same shapes: the visual content.
        """
        for index, attention in enumerate(self.attention):
            levels = attention(levels, times)
            if len(self.enhancement):
                levels = enhance_maps(self.enhancement[index], levels)
        return levels
