"""Time encoding: where in time a feature map belongs (paper Sec. 4.2, Eqs. 10 and 11).

Times are absolute in the window: 0 is its start, 1 its end. So the content's own encodings do not depend on what is
asked of it, and the content is built once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def encode_time(t: Tensor, bands: int) -> Tensor:
    """Encode times: gamma(t) = (sin(2^0 pi t), cos(2^0 pi t), ..., sin(2^(K-1) pi t), cos(2^(K-1) pi t)) (Eq. 10).

    Args:
        t: float32 [...], normalised times; in [0, 1] inside the window.
        bands: K.

    Returns:
        float32 [..., 2 * bands], sine then cosine per band.
    """
    frequencies = math.pi * 2.0 ** torch.arange(bands, dtype=torch.float32, device=t.device)
    angles = t.float().unsqueeze(-1) * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def encode_range(ranges: Tensor, bands: int) -> Tensor:
    """Encode exposure ranges: T(t_a, t_b) = [gamma(t_a), gamma(t_b)] (Eq. 11).

    Args:
        ranges: float32 [..., 2], normalised t_a <= t_b.
        bands: K.

    Returns:
        float32 [..., 4 * bands], first t_a then t_b.
    """
    return encode_time(ranges, bands).flatten(-2)


def to_level(ranges: Tensor, stride: int) -> Tensor:
    """Give each token of a level the mean range of its rows, or of its pixels.

    Args:
        ranges: float32 [b, n, H, 2] per row, or [b, n, H, W, 2] per pixel.
        stride: pixels per token and side.

    Returns:
        float32 [b, n, H / stride, 1, 2] or [b, n, H / stride, W / stride, 2].
    """
    rows = ranges.unflatten(2, (-1, stride)).mean(3)
    if ranges.ndim == 4:
        return rows.unsqueeze(3)
    return rows.unflatten(3, (-1, stride)).mean(4)


def content_ranges(image_ranges: Tensor, segment_ranges: Tensor) -> Tensor:
    """Line up the ranges of the content's maps: segments first, then images, as in {E_1 .. E_M, I_1 .. I_N}.

    Args:
        image_ranges: float32 [b, N, H, 2], exposures of the frames per row.
        segment_ranges: float32 [b, M, 2]; a segment is the same for all rows.

    Returns:
        float32 [b, M + N, H, 2].
    """
    height = image_ranges.shape[2]
    segments = segment_ranges.unsqueeze(2).expand(-1, -1, height, -1)
    return torch.cat((segments, image_ranges), dim=1).float()
