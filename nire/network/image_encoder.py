"""Image encoder: each captured frame becomes a feature pyramid (paper Sec. 4.1)."""

from __future__ import annotations

from torch import Tensor, nn

from nire.network.config import NetworkConfig
from nire.network.pyramid import ConvPyramid


class ImageEncoder(nn.Module):
    """The same fully convolutional encoder for every frame."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.pyramid = ConvPyramid(1, config.strides[0], config.channels, config.image_blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode N frames.

        Args:
            images: [b, N, 1, H, W], N >= 1.

        Returns:
            Per level [b, N, H / stride_l, W / stride_l, C_l]: I_1 .. I_N.
        """
        levels = self.pyramid(images.flatten(0, 1))
        return [level.permute(0, 2, 3, 1).unflatten(0, images.shape[:2]) for level in levels]
