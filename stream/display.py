"""How images are made visible: level and gamma from what was shown lately, for the page and for films.

Only what is looked at goes through here. The wire and PNG files keep the values of the camera.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

# What lies beyond these parts of the pixels may become black and white.
_BLACK, _WHITE = 0.005, 0.998
# Less than this between black and white is mostly noise, which must not fill the screen.
_LEAST_RANGE = 40.0
# Where the eye expects the middle of a picture; only the exponents in between are used, others look washed out.
_MIDDLE = 0.42
_GAMMAS = (0.45, 1.15)
_ADAPTS_IN_US = 2e6
_LONGEST_STEP_US = 0.5e6
_LOOKED_AT = 12_000


class Tone:
    """Maps values to what a screen shows; adapts within seconds, so that no moving object makes a picture pump."""

    def __init__(self) -> None:
        """Start with values as they are; the first image that is learned decides at once."""
        self._levels: NDArray[np.float64] | None = None
        self._t_us = 0.0
        self._table = np.arange(256, dtype=np.uint8)

    @property
    def table(self) -> NDArray[np.uint8]:
        """Value -> shown value, uint8 [256], never falling."""
        return self._table

    def learn(self, pixels: NDArray[np.uint8], t_us: float) -> None:
        """Adapt to an image.

        Args:
            pixels: uint8 [H, W, C]; every so-and-so-many-th pixel is looked at.
            t_us: when it was exposed, device time. It may go back; a long step counts as half a second.
        """
        step = max(1, round((pixels.shape[0] * pixels.shape[1] / _LOOKED_AT) ** 0.5))
        seen = pixels[::step, ::step]
        wanted = _levels_of(np.bincount(seen.ravel(), minlength=256) / seen.size)
        if self._levels is None:
            self._levels = wanted
        else:
            step_us = abs(t_us - self._t_us)
            passed_us = min(step_us, _LONGEST_STEP_US) if math.isfinite(step_us) else 0.0
            self._levels = self._levels + (1.0 - np.exp(-passed_us / _ADAPTS_IN_US)) * (wanted - self._levels)
        self._t_us = t_us
        black, white, gamma = self._levels
        self._table = np.rint(255.0 * _stretched(black, white) ** gamma).astype(np.uint8)

    def shown(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Apply what was learned to uint8 pixels of any shape; all channels alike, so colours stay."""
        return np.asarray(cv2.LUT(np.ascontiguousarray(pixels), self._table), np.uint8).reshape(pixels.shape)


def _levels_of(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say what becomes black, what becomes white, and the exponent that brings the mean to the middle: float64 [3].

    Args:
        shares: of each value among the pixels, float64 [256], sum 1.
    """
    below = np.concatenate([[0.0], np.cumsum(shares)])
    # Between two values the share grows evenly: a level glides where it would jump from one to the next.
    black, white = np.interp([_BLACK, _WHITE], below, np.arange(257.0) - 0.5)
    short = max(0.0, _LEAST_RANGE - (white - black))
    black = np.maximum(0.0, black - short / 2)
    white = np.maximum(white + short / 2, black + _LEAST_RANGE)
    mean = np.clip(shares @ _stretched(black, white), 1e-3, 1 - 1e-3)
    return np.array([black, white, np.clip(np.log(_MIDDLE) / np.log(mean), *_GAMMAS)])


def _stretched(black: float, white: float) -> NDArray[np.float64]:
    """Each value between black (0) and white (1), float64 [256]."""
    return np.clip((np.arange(256.0) - black) / (white - black), 0.0, 1.0)
