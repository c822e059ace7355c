"""The convolutional pyramid that images, event segments and re-exposed frames pass (paper Sec. 4.1).

The first level is reached by folding squares of pixels into channels, so that a network with a coarse stem spends
nothing on full resolution. Maps are NCHW in shape and channels-last in memory.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nire.integral import loops as plane_loops


def activate(maps: Tensor) -> Tensor:
    """Apply the one nonlinearity of convolutions, in place: a leaky rectifier, because a plain one can die."""
    return F.leaky_relu(maps, 0.1, inplace=True)


def fold(pixels: Tensor, stride: int) -> Tensor:
    """Fold stride x stride pixels into channels: [..., C, H, W] to [..., C stride^2, H / stride, W / stride].

    Channels come out by place in the square, halving by halving (rows, then columns), the C of one place together.

    Args:
        pixels: any memory format.
        stride: a power of two.

    Returns:
        Channel by channel in memory.
    """
    while stride > 1:
        pixels = torch.cat([pixels[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=-3)
        stride //= 2
    return pixels


def unfold_planes(planes: Tensor, stride: int) -> Tensor:
    """Undo `fold`, channel by channel in memory: for images, which no convolution follows."""
    if stride == 2 and planes.ndim == 4 and planes.shape[1] == 4 and plane_loops.serve(planes):
        image = planes.new_empty((len(planes), 1, 2 * planes.shape[2], 2 * planes.shape[3]))
        plane_loops.unfold(planes.contiguous().numpy(), image.numpy())
        return image
    while stride > 1:
        *lead, channels, height, width = planes.shape
        pixels = planes.new_empty((*lead, channels // 4, 2 * height, 2 * width))
        places = planes.unflatten(-3, (4, -1)).unbind(-4)
        for place, (i, j) in zip(places, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
            pixels[..., i::2, j::2] = place
        planes, stride = pixels, stride // 2
    return planes


def unfold(maps: Tensor, stride: int) -> Tensor:
    """Undo `fold`: [n, C stride^2, h, w] to [n, C, h stride, w stride], channels-last in memory: for convolutions."""
    pixels = maps.permute(0, 2, 3, 1)
    while stride > 1:
        n, height, width, channels = pixels.shape
        squares = pixels.reshape(n, height, width, 2, 2, channels // 4).permute(0, 1, 3, 2, 4, 5)
        pixels = squares.reshape(n, 2 * height, 2 * width, channels // 4)
        stride //= 2
    return pixels.permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + conv(activate(conv(x))), both 3 x 3; the second starts at zero, so that deep stacks start as nothing."""

    def __init__(self, channels: int) -> None:
        """Make the layers."""
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for value in self.second.parameters():
            nn.init.zeros_(value)

    def forward(self, maps: Tensor) -> Tensor:
        """Map [n, C, h, w] to the same shape."""
        return maps + self.second(activate(self.first(maps)))


class ConvPyramid(nn.Module):
    """Fully convolutional multi-scale encoder: L levels, finest first."""

    def __init__(
        self, inputs: int, stride: int, channels: tuple[int, ...], blocks: tuple[int, ...], folded: int = 1
    ) -> None:
        """Make the layers.

        Args:
            inputs: channels of what comes in.
            stride: of the first level; every further one doubles it.
            channels, blocks: per level.
            folded: stride at which it comes in.
        """
        super().__init__()
        # A coarse stem folds half of the way and convolves the rest: a quarter of the arithmetic of folding all of it.
        step = 2 if stride >= 4 and folded < stride else 1
        self.fold = stride // step // folded
        self.stem = nn.Conv2d(inputs * self.fold**2, channels[0], 3, stride=step, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(channels)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(c) for _ in range(count))) for c, count in zip(channels, blocks, strict=True)
        )

    def forward(self, pixels: Tensor, shift: Tensor | None = None) -> list[Tensor]:
        """Encode n images.

        Args:
            pixels: [n, inputs, H / folded, W / folded].
            shift: [n, C_1, 1, 1], added to what the stem gives; None for nothing.

        Returns:
            Per level [n, C_l, h_l, w_l].
        """
        maps = self._stemmed(pixels)
        maps = activate(maps if shift is None else maps + shift)
        levels = [self.blocks[0](maps)]
        for down, block in zip(self.down, self.blocks[1:], strict=True):
            levels.append(block(activate(down(levels[-1]))))
        return levels

    def _stemmed(self, pixels: Tensor) -> Tensor:
        """Fold and convolve in one: over pixels with longer strides, and nothing has to be moved.

        What convolves squares of pixels that were folded into channels (`fold`), 3 x 3 of them, convolves 3 `fold` x
        3 `fold` pixels: its weights only have to be laid out as the pixels are.
        """
        weight, halvings = self.stem.weight, self.fold.bit_length() - 1
        outputs, rows, columns = weight.shape[0], *weight.shape[2:]
        # [outputs, (row, column) of the square for each halving, the coarsest first, inputs, rows, columns]
        squares = weight.reshape(outputs, *(2, 2) * halvings, -1, rows, columns)
        inputs, places = 1 + 2 * halvings, range(1, 1 + 2 * halvings)
        order = (0, inputs, inputs + 1, *places[::2], inputs + 2, *places[1::2])
        kernel = squares.permute(order).reshape(outputs, -1, rows * self.fold, columns * self.fold)
        step, edge = self.fold * self.stem.stride[0], self.fold * int(self.stem.padding[0])
        return F.conv2d(pixels, kernel, self.stem.bias, stride=step, padding=edge)
