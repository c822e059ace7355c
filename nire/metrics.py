"""How near two images are: PSNR and SSIM, as the paper's tables use them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity


def psnr(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, peak 255; 100 for equal images, so that means stay finite.

    Args:
        image, truth: uint8, equal shapes.

    Raises:
        ValueError: the shapes differ.
    """
    _require_equal_shapes(image, truth)
    error = float(np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return 100.0 if error == 0 else min(100.0, 10 * float(np.log10(255.0**2 / error)))


def ssim(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Structural similarity in [-1, 1] with the Gaussian window of its authors (scikit-image), mean over channels.

    Args:
        image, truth: uint8 [H, W, C], equal shapes, at least 11 pixels each way.

    Raises:
        ValueError: the shapes differ.
    """
    _require_equal_shapes(image, truth)
    return float(
        structural_similarity(
            image, truth, data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def _require_equal_shapes(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
    if image.shape != truth.shape:
        raise ValueError(f"images of equal shape are needed, got {image.shape} and {truth.shape}")
