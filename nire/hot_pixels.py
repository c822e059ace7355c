"""Pixels that fire whatever they see, found by their neighbours, which do not."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch

# A hot pixel has more events than so many, and so many times those of its neighbours in the mean.
_HOT_EVENTS, _HOT_TIMES = 30, 16
# What is left of a pixel's events when the next are counted: one that becomes quiet is heard again.
_FORGET = 0.9


class HotPixels:
    """Counts events of span after span; deterministic in their sequence."""

    def __init__(self) -> None:
        """Know nothing."""
        self._activity = np.zeros((0, 0))

    def among(self, events: EventBatch, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Take the events of one more span, and tell which pixels are hot.

        Args:
            events: all of the span.
            shape: H, W of the sensor.

        Returns:
            bool [H, W]; None where there are none.
        """
        height, width = shape
        if self._activity.shape != shape:
            self._activity = np.zeros(shape)
        cells = events.y.astype(np.int64) * width + events.x
        self._activity *= _FORGET
        self._activity += np.bincount(cells, minlength=height * width).reshape(shape)
        y, x = np.nonzero(self._activity > _HOT_EVENTS)
        is_hot = self._activity[y, x] > _HOT_EVENTS + _HOT_TIMES * self._beside(y, x)
        hot = np.zeros(shape, np.bool_)
        hot[y[is_hot], x[is_hot]] = True
        return hot if is_hot.any() else None

    def _beside(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.float64]:
        """Average the neighbours of some pixels, fewer than eight at the edges, but for the one that fires most.

        That one may be hot as well.
        """
        height, width = self._activity.shape
        total, most, neighbours = np.zeros(len(y)), np.zeros(len(y)), np.zeros(len(y))
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            is_there = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width) & ((dy, dx) != (0, 0))
            events = np.zeros(len(y))
            events[is_there] = self._activity[y[is_there] + dy, x[is_there] + dx]
            total += events
            most = np.maximum(most, events)
            neighbours += is_there
        return (total - most) / np.maximum(neighbours - 1, 1)
