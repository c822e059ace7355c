"""Bayer mosaics become RGB, and RGB a mosaic; colours here are always red, green, blue, in this order."""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

BayerPattern = Literal["RGGB", "BGGR", "GRBG", "GBRG"]
"""Colours of the top left 2 x 2 pixels: two of the first row, two of the second."""
PATTERNS: tuple[str, ...] = get_args(BayerPattern)

_CODES: dict[str, int] = {
    "RGGB": cv2.COLOR_BayerRGGB2RGB_EA,
    "BGGR": cv2.COLOR_BayerBGGR2RGB_EA,
    "GRBG": cv2.COLOR_BayerGRBG2RGB_EA,
    "GBRG": cv2.COLOR_BayerGBRG2RGB_EA,
}


def demosaiced(mosaic: NDArray[np.uint8], pattern: BayerPattern) -> NDArray[np.uint8]:
    """Fill in the two colours that each pixel of a mosaic lacks, along edges rather than across them.

    Args:
        mosaic: uint8 [H, W] or [H, W, 1], both sides at least 4.
        pattern: of its top left corner.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: an unknown pattern, or no mosaic.
    """
    if pattern not in _CODES:
        raise ValueError(f"Bayer pattern {pattern!r}, expected one of {', '.join(PATTERNS)}")
    plane = mosaic[..., 0] if mosaic.ndim == 3 and mosaic.shape[2] == 1 else mosaic
    if plane.ndim != 2 or min(plane.shape) < 4:
        raise ValueError(f"a Bayer mosaic is [H, W] of at least 4 x 4, got {mosaic.shape}")
    return np.asarray(cv2.demosaicing(np.ascontiguousarray(plane), _CODES[pattern]), np.uint8)


def filter_of(pattern: BayerPattern | str, height: int, width: int) -> NDArray[np.intp]:
    """Tell which colour each pixel sees: int [H, W, 1], 0 red, 1 green, 2 blue.

    Raises:
        ValueError: an unknown pattern.
    """
    if pattern not in _CODES:
        raise ValueError(f"Bayer pattern {pattern!r}, expected one of {', '.join(PATTERNS)}")
    tile = np.array(["RGB".index(colour) for colour in pattern], np.intp).reshape(2, 2)
    return np.tile(tile, ((height + 1) // 2, (width + 1) // 2))[:height, :width, None]


def demosaiced_light(mosaic: NDArray[np.float32], pattern: BayerPattern | str) -> NDArray[np.float32]:
    """As `demosaiced`, of linear light.

    Args:
        mosaic: float32 [H, W], levels 0..255; what is beyond is clipped.
        pattern: of its top left corner.

    Returns:
        float32 [3, H, W], levels, exact to 1/257.
    """
    fine = np.rint(np.clip(mosaic, 0, 255) * 257).astype(np.uint16)
    colours = cv2.demosaicing(fine, _CODES[pattern]).astype(np.float32) / 257
    return np.ascontiguousarray(np.moveaxis(colours, 2, 0))
