"""Loops over pixels, compiled for the CPU: one pass where torch makes one for each operation.

Each says which function of torch it stands in for. Those are the definition: they run on GPUs, in training and inside
graphs, and tests compare the two. Arrays are float32 and contiguous unless it is said. Loops over events are in
`event_loops.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.compiled import compiled

Plane = NDArray[np.float32]
"""[H, W]; more dimensions where it is said."""

_ONE, _ZERO = np.float32(1), np.float32(0)


def serve(*tensors: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Tell whether loops can work on tensors: of a CPU, of this type, no gradient wanted, and no graph being traced."""
    if torch.compiler.is_compiling():
        return False
    return all(t.device.type == "cpu" and t.dtype == dtype and not t.requires_grad for t in tensors)


@compiled
def encode(encoded: Plane, light: Plane, white: float, brightest: float) -> None:
    """Encode the mean of channels as the network takes it: sqrt(light / white), from 0 to `brightest`.

    Args:
        encoded: [height, width], written where there is light.
        light: [C, H, W], H and W not more than height and width.
        white: what is encoded as 1.
        brightest: most that is written.
    """
    whole, most = np.float32(len(light) * white), np.float32(brightest * brightest)
    for y in range(light.shape[1]):
        for x in range(light.shape[2]):
            encoded[y, x] = light[0, y, x]
        for c in range(1, len(light)):
            for x in range(light.shape[2]):
                encoded[y, x] += light[c, y, x]
        for x in range(light.shape[2]):
            encoded[y, x] = np.sqrt(min(max(encoded[y, x] / whole, _ZERO), most))


@compiled
def weigh(trust: Plane, events: tuple[Plane, Plane, Plane], share: Plane, doubt: Plane, least: float) -> None:
    """Tell how far a frame is to be trusted: log(share) - doubt[events between], not less than `least`.

    Args:
        trust: [H, W], written.
        events: three of [H, W], whole numbers: until now, and until the frame's exposure began and ended.
        share: [H or 1, W or 1], logarithm of the frame's share.
        doubt: [n], logarithms by the number of events; more of them are doubted as much as the last one says.
        least: of trust.
    """
    count, opened, closed = events
    last, floor = len(doubt) - 1, np.float32(least)
    down, across = int(share.shape[0] > 1), int(share.shape[1] > 1)
    for y in range(trust.shape[0]):
        for x in range(trust.shape[1]):
            between = int(max(count[y, x], closed[y, x]) - min(count[y, x], opened[y, x]))
            trust[y, x] = max(share[down * y, across * x] - doubt[min(between, last)], floor)


@compiled
def add_blended(
    area: Plane, gain: Plane, events: tuple[Plane, Plane, Plane], ramp: Plane, width: Plane, noise: float
) -> None:
    """Add the second frame's part of the gain, times a width, to `area`: `DoubleIntegral._add_blended`.

    Args:
        area: [H, W], changed.
        gain: [H, W].
        events: three of [H, W]: until now, until the first frame's exposure began, and until the second's ended.
        ramp: [H or 1, W or 1], share of time that is the second frame's, 0 to 1.
        width: [H or 1, W or 1].
        noise: in events, > 0.
    """
    count, opened, closed = events
    height, width_px = gain.shape
    shares, spans, least = np.empty(width_px, np.float32), np.empty(width_px, np.float32), np.float32(noise)
    for y in range(height):
        if y == 0 or len(ramp) > 1:
            shares[:] = ramp[y]
        if y == 0 or len(width) > 1:
            spans[:] = width[y]
        for x in range(width_px):
            second = shares[x] * (max(count[y, x] - opened[y, x], _ZERO) + least)
            first = (_ONE - shares[x]) * (max(closed[y, x] - count[y, x], _ZERO) + least)
            area[y, x] += gain[y, x] * (second / (first + second)) * spans[x]


@compiled
def fold_slots(re_exposed: Plane, slots: tuple[Plane, Plane, Plane, Plane], trust_scale: float) -> None:
    """Lay estimates out in two slots, folded by 2: `nire.network.film.two_slots`.

    Args:
        re_exposed: [n, E, 2, H, W].
        slots: written: light of the first and of the last estimate, and trust in the first over that in the last, all
            [n, 4, H / 2, W / 2]; and [n, 10, H / 2, W / 2], both lights, and their trust, averaged and scaled.
        trust_scale: what the averages are multiplied with.
    """
    first, second, lead, planes = slots
    last = re_exposed.shape[1] - 1
    height, width = first.shape[2:]
    quarter = np.float32(trust_scale / 4)
    for n in range(len(re_exposed)):
        for y in range(height):
            for x in range(width):
                planes[n, 8, y, x] = planes[n, 9, y, x] = _ZERO
            for i in range(2):
                row = 2 * y + i
                for x in range(width):
                    planes[n, 2 * i, y, x] = first[n, 2 * i, y, x] = re_exposed[n, 0, 0, row, 2 * x]
                    planes[n, 2 * i + 1, y, x] = first[n, 2 * i + 1, y, x] = re_exposed[n, 0, 0, row, 2 * x + 1]
                for x in range(width):
                    planes[n, 2 * i + 4, y, x] = second[n, 2 * i, y, x] = re_exposed[n, last, 0, row, 2 * x]
                    planes[n, 2 * i + 5, y, x] = second[n, 2 * i + 1, y, x] = re_exposed[n, last, 0, row, 2 * x + 1]
                for x in range(width):
                    left, right = re_exposed[n, 0, 1, row, 2 * x], re_exposed[n, 0, 1, row, 2 * x + 1]
                    other_left, other_right = re_exposed[n, last, 1, row, 2 * x], re_exposed[n, last, 1, row, 2 * x + 1]
                    lead[n, 2 * i, y, x] = left - other_left
                    lead[n, 2 * i + 1, y, x] = right - other_right
                    planes[n, 8, y, x] += (left + right) * quarter
                    planes[n, 9, y, x] += (other_left + other_right) * quarter


@compiled
def unfold(planes: Plane, pixels: Plane) -> None:
    """Undo a folding by 2: `nire.network.pyramid.unfold_planes`.

    Args:
        planes: [n, 4, h, w].
        pixels: [n, 1, 2 h, 2 w], written.
    """
    for n in range(len(planes)):
        for y in range(planes.shape[2]):
            for i in range(2):
                for x in range(planes.shape[3]):
                    pixels[n, 0, 2 * y + i, 2 * x] = planes[n, 2 * i, y, x]
                    pixels[n, 0, 2 * y + i, 2 * x + 1] = planes[n, 2 * i + 1, y, x]


@compiled
def count(
    counts: NDArray[np.int16],
    events: tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]],
    edges: NDArray[np.int64],
    ignore: NDArray[np.bool_],
) -> int:
    """Count events into bins: `nire.planes.EventPlanes.add`.

    Args:
        counts: int16 [bins, 2, H, W], changed.
        events: their columns, rows and polarities.
        edges: [bins + 1]; events edges[k] to edges[k + 1] lie in bin k.
        ignore: [H, W], pixels whose events are left out; or empty.

    Returns:
        How many were counted.

    Raises:
        ValueError: an event lies outside the sensor.
    """
    columns, rows, polarities = events
    width, area = np.uint64(counts.shape[3]), np.uint64(counts.shape[2] * counts.shape[3])
    ignored = ignore.reshape(-1)
    one, counted = np.int16(1), 0
    for k in range(len(counts)):
        flat = counts[k].reshape(-1)
        for event in range(np.uint64(edges[k]), np.uint64(edges[k + 1])):
            row, column = np.uint64(rows[event]), np.uint64(columns[event])
            cell = np.uint64(polarities[event]) * area + row * width + column
            if cell >= len(flat) or row * width + column >= area:
                raise ValueError("an event lies outside the sensor")
            if len(ignored) == 0 or not ignored[row * width + column]:
                flat[cell] = flat[cell] + one
                counted += 1
    return counted


@compiled
def weigh_counts(change: Plane, counts: NDArray[np.int16], darker: float, brighter: float) -> None:
    """Sum up what events did to the logarithm of light: `VoxelGrid.change`.

    Args:
        change: [bins, height, width]; written where there are counts.
        counts: int16 [bins, 2, H, W], H and W not more than height and width.
        darker, brighter: thresholds.
    """
    low, high = np.float32(darker), np.float32(brighter)
    for k in range(len(counts)):
        for y in range(counts.shape[2]):
            for x in range(counts.shape[3]):
                change[k, y, x] = counts[k, 1, y, x] * high - counts[k, 0, y, x] * low
