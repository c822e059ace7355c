"""Loops from events to what the layers see, and from what they say to light, compiled for the CPU.

`network.folded` and `network.blended` are the definition, and tests compare. They go over memory once for each step;
here each row is read and written once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nire.compiled import compiled

Maps = NDArray[np.float32]
_ZERO, _QUARTER, _LEAST = (np.float32(value) for value in (0, 0.25, 1e-6))


@compiled
def fold(maps: Maps, before: Maps, change: Maps, number: Maps, rows: tuple[int, int], gray: np.float32) -> None:
    """Write what the layers see, from row `rows[0]` to before row `rows[1]`: `network.folded`.

    Args:
        maps: [5 K + 4, h, w], written.
        before: [2 h, 2 w], square root of light at the window's start.
        change, number: [K, H, W], of each bin, log units and log(1 + events); beside them there are no events.
        rows: of maps.
        gray: what the light is given less.
    """
    bins, height, width = change.shape
    row, count = np.zeros(2 * maps.shape[2], np.float32), np.zeros(2 * maps.shape[2], np.float32)
    for y in range(rows[0], rows[1]):
        for k in range(bins):
            count[:] = _ZERO
            for n in range(2):
                if 2 * y + n < height:
                    row[:width] = change[k, 2 * y + n]
                    for x in range(width):
                        count[x] += number[k, 2 * y + n, x]
                else:
                    row[:] = _ZERO
                left, right = maps[4 * k + 2 * n, y], maps[4 * k + 2 * n + 1, y]
                for x in range(len(left)):
                    left[x], right[x] = row[2 * x], row[2 * x + 1]
            mean = maps[4 * bins + k, y]
            for x in range(len(mean)):
                mean[x] = (count[2 * x] + count[2 * x + 1]) * _QUARTER
        for n in range(2):
            left, right, root = maps[5 * bins + 2 * n, y], maps[5 * bins + 2 * n + 1, y], before[2 * y + n]
            for x in range(len(left)):
                left[x], right[x] = root[2 * x] - gray, root[2 * x + 1] - gray


@compiled
def blend(
    roots: Maps,
    said: Maps,
    before: Maps,
    gains: Maps,
    rows: tuple[int, int],
    numbers: tuple[np.float32, np.float32],
) -> None:
    """Follow what the layers say, from row `rows[0]` of maps to before row `rows[1]`: `network.blended`.

    A change beyond its limit is not cut here: `sweep` has done that.

    Args:
        roots: [K, 2 h, 2 w], written: square roots of light at the ends of the bins.
        said: [8 K, h, w], light and how far it is to be believed, 0..1.
        before: [2 h, 2 w], square root of light at the window's start.
        gains: [K + 1, H, W], gain of the events at the bounds of the bins; beside them light does not change.
        rows: of maps.
        numbers: the dark current, and the most light.
    """
    dark, brightest = numbers
    bins, height, width = len(roots), gains.shape[1], gains.shape[2]
    scaled, gain = np.empty(2 * said.shape[2], np.float32), np.ones(2 * said.shape[2], np.float32)
    for y in range(2 * rows[0], 2 * rows[1]):
        gain[:] = np.float32(1)
        if y < height:
            gain[:width] = gains[0, y]
        for x in range(len(scaled)):
            scaled[x] = (before[y, x] * before[y, x] + dark) / gain[x]
        for k in range(bins):
            if y < height:
                gain[:width] = gains[k + 1, y]
            own, place = roots[k, y], 4 * k + 2 * (y % 2)
            for x in range(len(own)):
                own[x] = np.sqrt(min(max(scaled[x] * gain[x] - dark, _LEAST), brightest))
            for n in range(2):
                light, believed = said[place + n, y // 2], said[4 * bins + place + n, y // 2]
                for x in range(len(light)):
                    root = own[2 * x + n]
                    own[2 * x + n] = root + believed[x] * (light[x] - root)
