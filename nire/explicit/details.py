"""Details of an image by their size: an undecimated wavelet transform (Starck and Murtagh, 1994)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SIZES_CALMED = 3
"""Sizes of details, 1, 2 and 4 pixels, that may be calmed where they are noise."""
NOISE_ENERGY = (0.640625, 0.074462890625, 0.014347076416015625)
"""Mean square of the details of each size in white noise of variance 1."""


def calmed(planes: Tensor, amounts: Tensor) -> Tensor:
    """Take details away, size by size.

    Args:
        planes: [b, K + 1, H, W].
        amounts: [b, K + 1, SIZES_CALMED, h, w], 0..1: of details of 1, 2 and 4 pixels.
    """
    left = planes
    for size, details in enumerate(details_of(planes)):
        left = left - functional.interpolate(amounts[:, :, size], scale_factor=2.0) * details
    return left


def details_of(planes: Tensor) -> list[Tensor]:
    """Take images [b, n, H, W] apart: their details of each size, and what is left of them is smooth."""
    found, smooth = [], planes
    for size in range(SIZES_CALMED):
        smoother = _smoothed(_smoothed(smooth, 2**size, -2), 2**size, -1)
        found.append(smooth - smoother)
        smooth = smoother
    return found


def _smoothed(planes: Tensor, step: int, axis: int) -> Tensor:
    """Average with neighbours that are a step away on an axis, each counting half; at the edges with the last pixel."""
    size = planes.shape[axis]
    at = torch.arange(size, device=planes.device)
    before = planes.index_select(axis, (at - step).clamp_min(0))
    after = planes.index_select(axis, (at + step).clamp_max(size - 1))
    return (before + 2 * planes + after) / 4
