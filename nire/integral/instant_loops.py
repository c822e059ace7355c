"""Loops that bring pixels to an instant and write its light or its image, compiled for the CPU.

Each stands in for operations of torch, as those of `loops.py` do; it says which. Times are event time. What states hold
and where light is written is named here for the other loops that expose, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.compiled import compiled
from nire.integral.event_loops import Cells, Events, Plane, Times

Swept = tuple[tuple[Plane, Plane], Events, tuple[int, int, int], float, float]
"""Gains and counts of the key planes [n, H, W]; all events; the time of key plane 0, us from one to the next, and how
many there are; the longest ramp, us; and the greatest gain."""
Undo = tuple[Cells, Plane, Plane]
"""Pixels that are on a ramp, each once, with their gains and counts before: [P + 1] each."""
Held = tuple[tuple[Plane, Plane], NDArray[np.int64], Undo]
"""Gain and count [H, W] of a time, without ramps; how many events are in them, or -1 where they cannot go on [1]."""
Target = tuple[Plane, NDArray[np.uint8], NDArray[np.uint8]]
"""Where exposures are written: linear light [Q, C, H, W] in levels >= 0; or, where that is empty, images [Q, H, W, C]
by the values of `encode_table`, or by rounding where that is empty too."""

Evenly = NDArray[np.int16]
"""[K, C, H, W], in parts of a level: `EVEN_STEPS`. It is read beside all else, and half of its size is a tenth of the
time of an instant."""
EVEN_STEPS = 32
MOST_EVEN = np.iinfo(np.int16).max
NO_LIGHT = np.empty((0, 0, 0, 0), np.float32)
NO_EVEN: Evenly = np.empty((0, 0, 0, 0), np.int16)
NO_IMAGES = np.empty((0, 0, 0, 0), np.uint8)
ROUNDED = np.empty(0, np.uint8)
# Pixels of one instant that are written at once: what is told of them stays in the nearest cache.
_BLOCK_PX = 2048
# Between two planes with fewer events than this of a pixel there are none: its light moves with time.
_NO_EVENTS = np.float32(1e-6)
# In the time of one event so many pixels of two planes are copied.
_PIXELS_PER_EVENT = 4
_ONE, _ZERO = np.float32(1), np.float32(0)


@contextmanager
def written_to(light: Tensor) -> Iterator[Target]:
    """Give the target that stands for one tensor [C, H, W] of a CPU, however it lies in memory."""
    whole = light if light.is_contiguous() else torch.empty(light.shape)
    yield whole.numpy()[None], NO_IMAGES, ROUNDED
    if whole is not light:
        light.copy_(whole)


@compiled
def expose_instants(
    target: Target,
    held: Held,
    swept: Swept,
    at_us: Times,
    between: tuple[NDArray[np.int64], Plane],
    constants: Plane,
    counts: Plane,
    even: Evenly,
    numbers: tuple[float, float],
) -> None:
    """Expose instants: `DoubleIntegral._expose_instant`, `KeyPlanes._expose_instant`.

    Args:
        target: written.
        held: changed.
        swept: key planes and events.
        at_us: [Q, H or 1, W or 1].
        between: as `at_us`, the first of the two planes that each lies between, and how far it is from that one to the
            next by time, 0 to 1.
        constants: [K, C, H, W], light of planes where the gain is 1; a single one is all there is.
        counts: [K, H, W], events until the planes.
        even: light of the planes that goes evenly from one to the next, whatever events say; empty = none does.
        numbers: what constants have more than light; and the events by which a plane is wrong before any happened, for
            planes that are trusted by the events since, or 0 for such that meet where the events between them do.
    """
    key, time_share = between
    shares = numbers[1] == 0
    for q in range(len(at_us)):
        settle(held, swept, at_us[q])
        many = ramp(held[0], held[2], swept, at_us[q], shares)
        _expose(target, q, held[0], (key[q], time_share[q]), constants, counts, even, numbers)
        restore(held[0], held[2], many, shares)


@compiled
def _expose(
    target: Target,
    q: int,
    state: tuple[Plane, Plane],
    between: tuple[NDArray[np.int64], Plane],
    constants: Plane,
    counts: Plane,
    even: Evenly,
    numbers: tuple[float, float],
) -> None:
    """Write an instant whose gain and count are there."""
    light, images, encoding = target
    key, time_share = between
    down, across = int(key.shape[0] > 1), int(key.shape[1] > 1)
    height, width = state[0].shape
    # Row by row; pixel by pixel where each has its own time; and where all have one, rows need not be begun anew.
    part = 1 if across else width
    if down + across == 0:
        height, width, part = 1, height * width, min(height * width, _BLOCK_PX)
    size, channels = (height, width), constants.shape[1]
    gain, count = state[0].reshape(size), state[1].reshape(size)
    planes, counted = constants.reshape((len(constants), channels, *size)), counts.reshape((len(counts), *size))
    evenly = even.reshape((len(even), channels, *size))
    shone, shown = light.reshape((len(light), channels, *size)), images.reshape((len(images), *size, channels))
    floor, noise = np.float32(numbers[0]), np.float32(numbers[1])
    shares, row = np.empty(part, np.float32), np.empty(part, np.float32)
    for y in range(height):
        for x in range(0, width, part):
            pixels = slice(x, min(x + part, width))
            mine, own = shares[: pixels.stop - x], row[: pixels.stop - x]
            k, share = key[down * y, across * x], time_share[down * y, across * x]
            is_alone = len(planes) == 1 or (noise > _ZERO and not _ZERO < share < _ONE)
            if is_alone:
                k += int(share == _ONE and len(planes) > 1)
            elif noise > _ZERO:
                _trust_row(mine, count[y, pixels], counted[k, y, pixels], counted[k + 1, y, pixels], share, noise)
            else:
                _share_row(mine, count[y, pixels], counted[k, y, pixels], counted[k + 1, y, pixels], share)
            for c in range(channels):
                exposed = shone[q, c, y, pixels] if len(light) > 0 else own
                if is_alone:
                    _carry_row(exposed, gain[y, pixels], planes[k, c, y, pixels], floor)
                else:
                    first, second = planes[k, c, y, pixels], planes[k + 1, c, y, pixels]
                    if len(even) > 0:
                        bounds = evenly[k, c, y, pixels], evenly[k + 1, c, y, pixels]
                        _expose_parts(exposed, mine, gain[y, pixels], first, second, bounds, share, floor)
                    else:
                        _expose_row(exposed, mine, gain[y, pixels], first, second, floor)
                if len(images) > 0:
                    _encode_row(shown[q, y, pixels], c, exposed, encoding)


@compiled
def _trust_row(shares: Plane, count: Plane, opened: Plane, closed: Plane, share: float, noise: np.float32) -> None:
    """Tell what share of a row's pixels is the second plane's, by time and by the events since both planes: [W] all."""
    after, before = share, _ONE - share
    for x in range(len(shares)):
        second = after * (max(count[x] - opened[x], _ZERO) + noise)
        first = before * (max(closed[x] - count[x], _ZERO) + noise)
        shares[x] = second / (first + second)


@compiled
def _share_row(shares: Plane, count: Plane, before: Plane, after: Plane, time_share: float) -> None:
    """Tell how far each pixel of a row is on its way to the next plane, by events, or else by time: [W] all."""
    for x in range(len(shares)):
        whole = after[x] - before[x]
        share = min(max((count[x] - before[x]) / max(whole, _NO_EVENTS), _ZERO), _ONE)
        shares[x] = share if whole > _NO_EVENTS else time_share


@compiled
def _expose_row(light: Plane, shares: Plane, gain: Plane, first: Plane, second: Plane, floor: np.float32) -> None:
    """Write the light of a row between two planes: [W] all."""
    for x in range(len(light)):
        light[x] = max((first[x] + shares[x] * (second[x] - first[x])) * gain[x] - floor, _ZERO)


@compiled
def _expose_parts(
    light: Plane,
    shares: Plane,
    gain: Plane,
    first: Plane,
    second: Plane,
    bounds: tuple[Evenly, Evenly],
    time_share: float,
    floor: np.float32,
) -> None:
    """Do the same where a part of the light goes evenly from one of the `bounds` [W] to the other."""
    begin, end = bounds
    after, before = np.float32(time_share / EVEN_STEPS), np.float32((1 - time_share) / EVEN_STEPS)
    for x in range(len(light)):
        by_events = (first[x] + shares[x] * (second[x] - first[x])) * gain[x]
        evenly = before * np.float32(begin[x]) + after * np.float32(end[x])
        light[x] = max(by_events + evenly - floor, _ZERO)


@compiled
def _carry_row(light: Plane, gain: Plane, constant: Plane, floor: np.float32) -> None:
    """Write the light of a row that one plane tells: [W] all."""
    for x in range(len(light)):
        light[x] = max(constant[x] * gain[x] - floor, _ZERO)


@compiled
def encode(image: NDArray[np.uint8], light: Plane, encoding: NDArray[np.uint8]) -> None:
    """Write linear light as 8 bits: [C, H, W] levels -> [H, W, C], `IntegralReconstructor._encode_into`.

    Args:
        image: written.
        light: >= 0.
        encoding: as of `Target`.
    """
    for y in range(image.shape[0]):
        for c in range(image.shape[2]):
            _encode_row(image[y], c, light[c, y], encoding)


@compiled
def _encode_row(pixels: NDArray[np.uint8], channel: int, light: Plane, encoding: NDArray[np.uint8]) -> None:
    """Write one channel of a row as 8 bits: light [W] -> pixels [W, C].

    To the nearest level, to the even one of two: midway between two frames every other pixel lies between two levels,
    and with all of them rounded up an image there would be brighter than both frames.
    """
    white, half = np.float32(255), np.float32(0.5)
    if len(encoding) > 0:
        steps = np.float32(len(encoding) - 1) / white
        for x in range(len(light)):
            pixels[x, channel] = encoding[np.uint64(min(light[x], white) * steps + half)]
    elif pixels.shape[1] == 1:  # so that it becomes one instruction for many pixels
        flat = pixels.reshape(-1)
        for x in range(len(light)):
            flat[x] = np.uint8(np.int32(np.rint(min(light[x], white))))
    else:
        for x in range(len(light)):
            pixels[x, channel] = np.uint8(np.int32(np.rint(min(light[x], white))))


@compiled
def settle(held: Held, swept: Swept, at_us: Times) -> None:
    """Bring gain and count to those of the events up to a time: `Sweep.stairs`.

    They are those of the last key plane before it, and of the events since. A state of an earlier time goes on where
    that is less work: to the same values, as long as no gain comes to the limit of the sweep.

    Args:
        held: changed.
        swept: key planes and events.
        at_us: event time, not before key plane 0.
    """
    (gain, count), mark = held[0], held[1]
    keys, events, (t0_us, key_us, known) = swept[0], swept[1], swept[2]
    t_us = events[1]
    key = np.empty(at_us.shape, np.int64)
    for y in range(at_us.shape[0]):
        for x in range(at_us.shape[1]):
            key[y, x] = min(int(at_us[y, x] - t0_us) // key_us, known - 1)
    end = np.searchsorted(t_us, int(at_us.max()), side="right")
    begin = np.searchsorted(t_us, t0_us + key_us * key.min(), side="right")
    if at_us.size == 1:
        known_to, mark[0] = mark[0], -1
        goes_on = 0 <= known_to <= end and end - known_to <= end - begin + gain.size // _PIXELS_PER_EVENT
        if goes_on and _apply(held[0], events, (known_to, end), swept[4]):
            mark[0] = end
            return
        _copy(gain, keys[0][key[0, 0]])
        _copy(count, keys[1][key[0, 0]])
        if _apply(held[0], events, (begin, end), swept[4]):
            mark[0] = end
        return
    mark[0] = -1
    for y in range(gain.shape[0]):
        row = y if at_us.shape[0] > 1 else 0
        if at_us.shape[1] == 1:
            _copy(gain[y], keys[0][key[row, 0], y])
            _copy(count[y], keys[1][key[row, 0], y])
            continue
        for x in range(gain.shape[1]):
            gain[y, x], count[y, x] = keys[0][key[row, x], y, x], keys[1][key[row, x], y, x]
    cells, factors = events[0], events[3]
    flat_gain, flat_count = gain.reshape(-1), count.reshape(-1)
    for k in range(np.uint64(begin), np.uint64(end)):
        cell = np.uint64(cells[k])
        place = _place(cell, gain.shape[1], at_us.shape)
        if t0_us + key_us * key[place] < t_us[k] <= at_us[place]:
            flat_gain[cell] *= factors[k]
            flat_count[cell] += _ONE if factors[k] != _ONE else _ZERO


@compiled
def _apply(state: tuple[Plane, Plane], events: Events, which: tuple[Any, Any], most: float) -> Any:
    """Let events change gain and count of their pixels; False where a gain has left 1 / most to most."""
    cells, factors = events[0], events[3]
    gain, count = state[0].reshape(-1), state[1].reshape(-1)
    least, greatest = _ONE, _ONE
    for k in range(np.uint64(which[0]), np.uint64(which[1])):
        cell, factor = np.uint64(cells[k]), factors[k]
        changed = gain[cell] * factor
        gain[cell] = changed
        count[cell] += _ONE if factor != _ONE else _ZERO
        least, greatest = min(least, changed), max(greatest, changed)
    return least >= _ONE / np.float32(most) and greatest <= np.float32(most)


@compiled
def _copy(target: Plane, source: Plane) -> None:
    """Copy a plane or a row: an assignment of slices asks first whether they overlap, and goes one by one."""
    flat_target, flat_source = target.reshape(-1), source.reshape(-1)
    for k in range(len(flat_target)):
        flat_target[k] = flat_source[k]


@compiled
def ramp(state: tuple[Plane, Plane], undo: Undo, swept: Swept, at_us: Times, shares: bool) -> int:
    """Put pixels that are on their way to their next event on their ramps: `Sweep.ramp`.

    Args:
        state: gain and count [H, W], of the events up to `at_us`; changed.
        undo: written, so that `restore` can take them from there.
        swept: key planes and events.
        at_us: event time.
        shares: count a share of the event that a pixel is on its way to.

    Returns:
        How many they are.
    """
    (cells, t_us, leads, factors), reach_us = swept[1], swept[3]
    ramped, gains, counts = undo
    gain, count = state[0].reshape(-1), state[1].reshape(-1)
    width, reach = state[0].shape[1], np.float32(reach_us)
    begin = np.searchsorted(t_us, int(at_us.min()), side="right")
    end = np.searchsorted(t_us, int(at_us.max() + reach_us), side="right")
    many, now_us, is_one = 0, at_us[0, 0], at_us.size == 1
    # First which, without a branch that no processor could foresee, then how far.
    for k in range(np.uint64(begin), np.uint64(end)):
        if not is_one:
            now_us = at_us[_place(np.uint64(cells[k]), width, at_us.shape)]
        ahead = np.float32(t_us[k] - now_us)
        ramped[many] = k
        many += int((ahead > _ZERO) & (ahead < min(leads[k], reach)))
    for n in range(np.uint64(many)):
        event = np.uint64(ramped[n])
        if not is_one:
            now_us = at_us[_place(np.uint64(cells[event]), width, at_us.shape)]
        gains[n] = _ONE - np.float32(t_us[event] - now_us) / min(leads[event], reach)
        counts[n] = factors[event] - _ONE
        ramped[n] = cells[event]
    if shares:
        for n in range(np.uint64(many)):
            cell, share, change = np.uint64(ramped[n]), gains[n], counts[n]
            gains[n], counts[n] = gain[cell], count[cell]
            gain[cell] *= _ONE + change * share
            count[cell] += share if change != _ZERO else _ZERO
        return many
    for n in range(np.uint64(many)):  # the count is left alone: each look at it would wait for memory
        cell, factor = np.uint64(ramped[n]), _ONE + counts[n] * gains[n]
        gains[n] = gain[cell]
        gain[cell] *= factor
    return many


@compiled
def restore(state: tuple[Plane, Plane], undo: Undo, many: int, shares: bool) -> None:
    """Take pixels from their ramps.

    Args:
        state: as `ramp` left it; as it was before, afterwards.
        undo: as `ramp` left it.
        many: what it returned.
        shares: as it was told.
    """
    ramped, gains, counts = undo
    gain, count = state[0].reshape(-1), state[1].reshape(-1)
    for n in range(np.uint64(many)):
        gain[np.uint64(ramped[n])] = gains[n]
    if shares:
        for n in range(np.uint64(many)):
            count[np.uint64(ramped[n])] = counts[n]


@compiled
def _place(cell: np.uint64, width: int, shape: tuple[int, int]) -> tuple[np.uint64, np.uint64]:
    """Find a pixel's entry among those of an image, of its rows or of its pixels."""
    if shape[0] == 1 and shape[1] == 1:
        return np.uint64(0), np.uint64(0)
    row = _row_of(cell, width)
    return np.uint64(row), np.uint64(0) if shape[1] == 1 else np.uint64(cell - np.uint64(row * width))


@compiled
def _row_of(cell: np.uint64, width: int) -> Any:
    """Divide by the width: as a product, which takes a tenth of the time; exact for all 31 bits of a pixel's place."""
    return int((np.float64(cell) + 0.5) * (1.0 / np.float64(width)))
