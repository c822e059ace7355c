"""What training makes small: Charbonnier, and terms that look at structure. Computed on square roots of light."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from nire.training.perceptual import perceptual
from nire.training.settings import LossSettings

# Below this difference Charbonnier is quadratic: a quarter of an 8-bit level.
_SOFT = 1e-3
_SSIM_WINDOW = 7
# No more than this is asked of an image's PSNR, dB.
_PERFECT_DB = 60.0


def loss(image: Tensor, target: Tensor, settings: LossSettings) -> Tensor:
    """Weigh the terms.

    Args:
        image, target: float [b, Q, 1, H, W], square roots of linear light.
        settings: the weights.

    Returns:
        float32 [], the mean over everything.

    Raises:
        WeightsError: the perceptual term is wanted and its file does not serve.
    """
    image, target = image.float().flatten(0, 1), target.float().flatten(0, 1)
    total = settings.charbonnier * charbonnier(image, target)
    if settings.gradient:
        total = total + settings.gradient * gradient(image, target)
    if settings.ssim:
        total = total + settings.ssim * (1 - ssim(image, target))
    if settings.psnr:
        total = total + settings.psnr * missing_psnr(image, target)
    if settings.perceptual:
        total = total + settings.perceptual * perceptual(image, target, Path(settings.perceptual_weights))
    return total


def charbonnier(image: Tensor, target: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + e^2) over the differences d (Charbonnier et al., 1994)."""
    return ((image - target).square() + _SOFT**2).sqrt().mean()


def gradient(image: Tensor, target: Tensor) -> Tensor:
    """Charbonnier of the differences between neighbours, both ways: edges where they belong, [n, 1, H, W]."""
    across = charbonnier(image.diff(dim=-1), target.diff(dim=-1))
    return (across + charbonnier(image.diff(dim=-2), target.diff(dim=-2))) / 2


def missing_psnr(image: Tensor, target: Tensor) -> Tensor:
    """Mean of what each image's PSNR lacks of 60 dB: [n, 1, H, W] -> [].

    Each image counts by the logarithm of its error: clean windows, where little is wrong, as much as noisy ones.
    """
    error = (image - target).square().mean((1, 2, 3))
    return 10 * torch.log10(error + 10 ** (-_PERFECT_DB / 10)).mean() + _PERFECT_DB


def ssim(image: Tensor, target: Tensor) -> Tensor:
    """Mean structural similarity with a flat 7 x 7 window (Wang et al., 2004), range 1: [n, 1, H, W] -> []."""

    def local(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, _SSIM_WINDOW, 1)

    mean, mean_target = local(image), local(target)
    variance = local(image * image) - mean * mean
    variance_target = local(target * target) - mean_target * mean_target
    both = local(image * target) - mean * mean_target
    steady, contrast = 0.01**2, 0.03**2
    similar = (2 * mean * mean_target + steady) * (2 * both + contrast)
    whole = (mean * mean + mean_target * mean_target + steady) * (variance + variance_target + contrast)
    return (similar / whole).mean()


def psnr_of(image: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB of square roots of light, peak 1, over everything; for curves, not for tables."""
    error = (image.float().clamp(0, 1) - target.float()).square().mean().clamp(min=1e-10)
    return -10 * torch.log10(error)
