"""How far the network may go in one window, by OpenCV: `limits.py` is the definition, and tests compare."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.explicit.details import NOISE_ENERGY
from nire.explicit.limits import ENOUGH_EVENTS, LEAST_ENERGY, LIMITS, MOST_NOISE, REACH_CELLS


def limits_of(
    number: NDArray[Any], frames: tuple[NDArray[Any], NDArray[Any]], deviation: float, *, alone: bool, whole: bool
) -> NDArray[np.float32]:
    """Do as `limits` for one window, by OpenCV.

    Args:
        number: float32 [H, W], events of the window; H and W even.
        frames: float32 [H, W] each.
        deviation: of the noise that differs from frame to frame, square roots of light (`noise_levels`).
        alone: there is one frame only.
        whole: no events are missing.

    Returns:
        [LIMITS, h, w].
    """
    found = np.ones((LIMITS, number.shape[0] // 2, number.shape[1] // 2), np.float32)
    if whole:
        reached = cv2.dilate(blurred(halved(number)), np.ones((2 * REACH_CELLS + 1,) * 2, np.uint8))
        found[0] = blurred(1 - np.exp(reached / -ENOUGH_EVENTS))
    if not alone:
        first, second = frames
        noise = np.minimum(blurred(halved(cv2.absdiff(first, second) ** 2)) / 4, (MOST_NOISE * deviation) ** 2)
        smooth = cv2.addWeighted(first, 0.5, second, 0.5, 0)
        for size, gain in enumerate(NOISE_ENERGY):
            smoother = _smoothed(smooth, 2**size)
            energy = blurred(halved((smooth - smoother) ** 2))
            found[1 + size] = np.minimum(gain * noise / (energy + LEAST_ENERGY), 1)
            smooth = smoother
    return found


def blurred(cells: NDArray[Any]) -> NDArray[Any]:
    """Average 3 x 3 cells, as `limits.near`: [h, w]."""
    return np.asarray(cv2.blur(cells, (3, 3), borderType=cv2.BORDER_REPLICATE))


def halved(pixels: NDArray[Any]) -> NDArray[Any]:
    """Average cells of four pixels: [H, W] -> [H / 2, W / 2], H and W even."""
    return np.asarray(cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _smoothed(pixels: NDArray[Any], step: int) -> NDArray[Any]:
    kernel = np.zeros(2 * step + 1, np.float32)
    kernel[[0, step, -1]] = 0.25, 0.5, 0.25
    return np.asarray(cv2.sepFilter2D(pixels, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE))
