"""Light and its encoding: tables between 8-bit pixels and linear light, because exposure happens in linear light."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from nire.types import Transfer

ENCODE_STEPS = 32
"""Resolution of `encode_table`: entries per level of linear light."""
UNKNOWN_LIGHT = 0.25
"""What a pixel that no frame tells of is taken for on average over a window: middle gray, as share of white."""
BRIGHTEST = 1.5
"""Most light of a re-exposure for a network, as its square root: above white, so that what leaves a frame shows."""
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Shares of red, green and blue in linear luma (ITU-R BT.709)."""


@cache
def decode_table(transfer: Transfer) -> NDArray[np.float32]:
    """Linear light of each 8-bit value: float32 [256], in levels 0..255 (IEC 61966-2-1 for "srgb")."""
    level = np.arange(256, dtype=np.float64) / 255
    if transfer == "srgb":
        level = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return (255 * level).astype(np.float32)


@cache
def encode_table(transfer: Transfer) -> NDArray[np.uint8]:
    """8-bit value of linear light: uint8 [255 * ENCODE_STEPS + 1]; index is light in levels times ENCODE_STEPS."""
    light = np.arange(255 * ENCODE_STEPS + 1) / (255 * ENCODE_STEPS)
    if transfer == "srgb":
        light = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * light).astype(np.uint8)
