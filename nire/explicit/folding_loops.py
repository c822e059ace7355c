"""Loops from evidence to what the layers see, and from what they say to planes, compiled for the CPU: `folding.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nire.compiled import compiled
from nire.integral.loops import Plane

Maps = NDArray[Any]
"""Channels last: float32, or uint16 for the bits of bfloat16."""
Evidence = tuple[NDArray[np.float32], ...]
"""Constants, opened, closed, shares, gains, counts, moved, moved shares: fields of `evidence.Evidence`."""

_ZERO, _ONE, _TWO, _HALF, _QUARTER, _LEVELS = (np.float32(value) for value in (0, 1, 2, 0.5, 0.25, 255))


@compiled
def fold(body: Maps, head: Maps, evidence: Evidence, frames: Plane, rows: tuple[int, int], numbers: Plane) -> None:
    """Write what the layers see, from row `rows[0]` to before row `rows[1]`: `evidence.called_up`, `network.folded`.

    Args:
        body: [h, w, c], written; 9 (K + 1) + 2 K + 8 channels and one more where that is odd: `_interleave`.
        head: [K + 1, h, w, c], written; 27 channels and one more.
        evidence: of `Folding`.
        frames: [2, H, W].
        rows: of maps, at half resolution.
        numbers: of `Folding`.
    """
    gains, counts, moved, moved_shares = evidence[4], evidence[5], evidence[6], evidence[7]
    planes, height, width = gains.shape
    across = body.shape[1]
    cut, shut = numbers[4], numbers[5]
    number, change = np.empty((planes + 1, across), np.float32), np.empty((planes + 1, across), np.float32)
    number[0], change[0], number[planes], change[planes] = _ZERO, _ZERO, _ZERO, _ZERO
    # Of two rows: witnesses by events, their trust, those by flow, events mixed, and how far they differ.
    roots, shares = np.empty((2, 3, 2 * across), np.float32), np.empty((2, 3, 2 * across), np.float32)
    fetched, mixed = np.empty((2, 2, 2 * across), np.float32), np.empty((2, 2 * across), np.float32)
    apart = np.empty((4, 2 * across), np.float32)
    # Channels that nobody is told anything by fill the last word.
    own, seen = np.zeros((28, across), np.float32), np.zeros((11 * planes + 6 + planes % 2, across), np.float32)
    for r in range(rows[0], rows[1]):
        pair = (min(2 * r, height - 1), min(2 * r + 1, height - 1))
        for k in range(planes - 1):
            _events_of(number[k + 1], change[k + 1], mixed, gains, counts, k, pair)
        for k in range(planes):
            flow = moved_shares[k, 0] + moved_shares[k, 1]
            flow_share = moved_shares[k, 0] / flow if flow > _ZERO else _HALF
            apart[:] = _ZERO
            for n in range(2):
                y = pair[n]
                _call_up(roots[n], shares[n], evidence, k, y, numbers)
                for witness in range(2):
                    fetched[n, witness, :width] = moved[k, witness, y]
                    fetched[n, witness, width:] = moved[k, witness, y, width - 1]
                first, second, past = roots[n, 0], roots[n, 1], roots[n, 2]
                from_first, from_second = fetched[n, 0], fetched[n, 1]
                for x in range(2 * across):
                    before, after = max(shares[n, 0, x], shut), max(shares[n, 1, x], shut)
                    by_events = (before * first[x] + after * second[x]) / (before + after)
                    by_flow = from_second[x] + flow_share * (from_first[x] - from_second[x])
                    mixed[n, x] = by_events
                    apart[0, x] += abs(first[x] - second[x])
                    apart[1, x] += abs(from_first[x] - from_second[x])
                    apart[2, x] += abs(by_events - by_flow)
                    apart[3, x] += abs(by_events - past[x])
                for at, values in ((0, first), (4, second), (8, from_first), (12, from_second), (16, past)):
                    _split(own, at + 2 * n, values)
                _split(seen, 4 * k + 2 * n, mixed[n])
            for n in range(4):
                mean, both = seen[4 * (planes + k) + n], apart[n]
                for x in range(across):
                    mean[x] = (both[2 * x] + both[2 * x + 1]) * _QUARTER
            for n in range(3):
                trust, upper, lower = own[20 + n], shares[0, n], shares[1, n]
                for x in range(across):
                    above = max(upper[2 * x], cut) * max(upper[2 * x + 1], cut)
                    trust[x] = above * (max(lower[2 * x], cut) * max(lower[2 * x + 1], cut))
            for n in range(20, 23):
                # A quarter for the mean of four pixels, and a quarter as the network was taught.
                _logarithms(own[n], _QUARTER * _QUARTER)
            for x in range(across):
                seen[8 * planes + k, x] = max(own[20, x], own[21, x])
            own[23:25], own[25:27] = number[k : k + 2], change[k : k + 2]
            _interleave(head[k, r], own)
        seen[9 * planes : 10 * planes - 1], seen[10 * planes - 1 : 11 * planes - 2] = number[1:planes], change[1:planes]
        for frame in range(2):
            for n in range(2):
                mixed[n, :width], mixed[n, width:] = frames[frame, pair[n]], frames[frame, pair[n], width - 1]
                _split(seen, 11 * planes - 2 + 4 * frame + 2 * n, mixed[n])
        _interleave(body[r], seen)


@compiled
def _split(channels: Plane, at: int, values: Plane) -> None:
    """Write every other value [2 w], the first and the second of each two, into the channels `at` and `at` + 1, [w]."""
    left, right = channels[at], channels[at + 1]
    for x in range(len(left)):
        left[x], right[x] = values[2 * x], values[2 * x + 1]


@compiled
def _events_of(
    number: Plane, change: Plane, column: Plane, gains: Plane, counts: Plane, k: int, rows: tuple[int, int]
) -> None:
    """Tell of the events of a bin in two rows: the means of log(1 + number) and of the change of log light, [w].

    Args:
        number, change: [w], written.
        column: [2, 2 w], scratch.
        gains, counts: [K + 1, H, W].
        k: of the bin.
        rows: of pixels.
    """
    width = gains.shape[2]
    events, ratio = column[0], column[1]
    events[:], ratio[:] = _ONE, _ONE
    for y in rows:
        count, gain, next_count, next_gain = counts[k, y], gains[k, y], counts[k + 1, y], gains[k + 1, y]
        for x in range(width):
            events[x] *= _ONE + max(next_count[x] - count[x], _ZERO)
            ratio[x] *= next_gain[x] / gain[x]
    events[width:], ratio[width:] = events[width - 1], ratio[width - 1]
    for x in range(len(number)):
        number[x], change[x] = events[2 * x] * events[2 * x + 1], ratio[2 * x] * ratio[2 * x + 1]
    _logarithms(number, _QUARTER)
    _logarithms(change, _QUARTER)


@compiled
def blend(
    planes: Plane,
    said: Maps,
    limits: Plane,
    evidence: Evidence,
    rows: tuple[int, int],
    numbers: Plane,
    prior: Plane,
) -> None:
    """Follow what the layers say, from row `rows[0]` of maps to before row `rows[1]`: `network.blended`.

    Args:
        planes: [K + 1, H, W], written.
        said: float32 [K + 1, h, w, 4 + 5 + 3], hyperbolic tangents.
        limits: [1 + 3, h, w], of `folding_limits.limits_of`.
        evidence, rows, numbers: as of `fold`.
        prior: [5], by which the trust in each witness is multiplied.
    """
    count, height, width = planes.shape
    tall, wide = 2 * said.shape[1], 2 * said.shape[2]
    # What is calmed in a row depends on seven more on each side, 1 + 2 + 4.
    first, end = max(2 * rows[0] - 7, 0), min(2 * rows[1] + 7, tall)
    mixed, smoother = np.empty((end - first, wide), np.float32), np.empty((end - first, wide), np.float32)
    heard, swayed = np.empty((2, 5, wide), np.float32), np.empty((5, wide), np.float32)
    for k in range(count):
        for y in range(first, end):
            if y == first or y % 2 == 0:
                _sway(swayed, said[k, y // 2], limits[0, y // 2], mixed[y - first], numbers[6])
            _mix(mixed[y - first], heard, swayed, evidence, (k, min(y, height - 1)), numbers, prior)
        own = planes[k, 2 * rows[0] : min(2 * rows[1], height)]
        own[:] = mixed[2 * rows[0] - first :, :width][: len(own)]
        _calm(own, mixed, smoother, said[k], limits[1:], first, 2 * rows[0])
        for n in range(len(own)):
            cells, moved, row = said[k, rows[0] + n // 2], limits[0, rows[0] + n // 2], own[n]
            for x in range(width):
                row[x] = np.sqrt(max(row[x], numbers[7]))
            for x in range(width):
                row[x] += moved[x // 2] * cells[x // 2, 2 * (n % 2) + x % 2]


@compiled
def _mix(
    mixed: Plane,
    heard: Plane,
    swayed: Plane,
    evidence: Evidence,
    place: tuple[int, int],
    numbers: Plane,
    prior: Plane,
) -> None:
    """Mix the witnesses in a row by how far they are trusted, in linear light.

    Args:
        mixed: [2 w], linear light, written; what is beyond W repeats the last pixel's witnesses.
        heard: [2, 5, 2 w], scratch.
        swayed: [5, 2 w], of `_sway`.
        evidence, numbers, prior: as of `blend`.
        place: key time and row.
    """
    k, y = place
    moved, moved_shares, width = evidence[6], evidence[7], evidence[4].shape[2]
    roots, shares = heard[0], heard[1]
    _call_up(roots, shares, evidence, k, y, numbers)
    roots[4], shares[4] = roots[2], shares[2]
    for n in range(2):
        roots[2 + n, :width], roots[2 + n, width:] = moved[k, n, y], moved[k, n, y, width - 1]
        shares[2 + n] = moved_shares[k, n]
    for n in range(5):
        bias, shut, share, light, factor = prior[n], numbers[5], shares[n], roots[n], swayed[n]
        for x in range(len(mixed)):
            share[x] = max(share[x] * bias, shut) * factor[x]
            light[x] *= light[x] * share[x]
    for n in range(1, 5):
        for x in range(len(mixed)):
            shares[0, x] += shares[n, x]
            roots[0, x] += roots[n, x]
    for x in range(len(mixed)):
        mixed[x] = roots[0, x] / shares[0, x]


@compiled
def _sway(swayed: Plane, cells: Maps, moved: Plane, scratch: Plane, most: np.float32) -> None:
    """Tell by what the trust in each witness is multiplied in a row of cells: [5, 2 w], written.

    Args:
        swayed: written.
        cells: [w, 4 + 5 + 3], of `said`.
        moved: [w], how much of it counts.
        scratch: [w or more].
        most: how far the logarithm may be moved.
    """
    told = scratch[: len(cells)]
    for n in range(5):
        for x in range(len(told)):
            told[x] = cells[x, 4 + n] * (most * moved[x])
        _exponentials(told)
        own = swayed[n]
        for x in range(len(told)):
            own[2 * x], own[2 * x + 1] = told[x], told[x]


@compiled
def _calm(own: Plane, mixed: Plane, smoother: Plane, cells: Maps, noise: Plane, first: int, top: int) -> None:
    """Take details away from some rows of a plane, size by size: `details.calmed`.

    Args:
        own: [n, W], changed.
        mixed: [m, 2 w], what it was made of, and 7 rows more on each side where the plane has them; overwritten.
        smoother: as `mixed`, scratch.
        cells: [h, w, 4 + 5 + 3], of `said`.
        noise: [3, h, w], how much of details of each size is noise.
        first: row of the plane that `mixed` begins with.
        top: row of the plane that `own` begins with.
    """
    last, wide = len(cells) * 2 - 1, mixed.shape[1]
    down, margin = np.empty(wide + 8, np.float32), 7
    for size in range(3):
        step = 1 << size
        margin -= step
        for y in range(max(top - margin, 0), min(top + len(own) + margin, last + 1)):
            now, before = mixed[y - first], mixed[max(y - step, 0) - first]
            after, inner = mixed[min(y + step, last) - first], down[step : step + wide]
            for x in range(wide):
                inner[x] = (before[x] + _TWO * now[x] + after[x]) * _QUARTER
            down[:step], down[step + wide :] = inner[0], inner[wide - 1]
            left, right, across = down[:wide], down[2 * step : 2 * step + wide], smoother[y - first]
            for x in range(wide):
                across[x] = (left[x] + _TWO * inner[x] + right[x]) * _QUARTER
            if top <= y < top + len(own):
                for x in range(cells.shape[1]):
                    amount = (_ONE + cells[y // 2, x, 9 + size]) * (_HALF * noise[size, y // 2, x])
                    down[2 * x], down[2 * x + 1] = amount, amount
                row = own[y - top]
                for x in range(len(row)):
                    row[x] -= down[x] * (now[x] - across[x])
        mixed, smoother = smoother, mixed


@compiled
def _exponentials(values: Plane) -> None:
    """Replace numbers of at most 80 by their exponentials [n], to a millionth; C's takes them one by one."""
    bits = np.empty(len(values), np.int32)
    for x in range(len(values)):
        power = values[x] * np.float32(1.4426950408889634)
        whole = np.floor(power + _HALF)
        rest = (power - whole) * np.float32(0.6931471805599453)
        bits[x] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        series = np.float32(1 / 120) + rest * np.float32(1 / 720)
        series = np.float32(1 / 6) + rest * (np.float32(1 / 24) + rest * series)
        values[x] = _ONE + rest * (_ONE + rest * (_HALF + rest * series))
    powers = bits.view(np.float32)
    for x in range(len(values)):
        values[x] *= powers[x]


@compiled
def _logarithms(values: Plane, scale: np.float32) -> None:
    """Replace positive numbers by `scale` times their logarithms [n], to a millionth; C's takes them one by one."""
    bits = values.view(np.int32)
    for x in range(len(values)):
        # As m 2^e with m from 0.71 to 1.41, the square roots of a half and of two.
        power = (bits[x] - np.int32(0x3F3504F3)) >> np.int32(23)
        bits[x] -= power << np.int32(23)
        share = (values[x] - _ONE) / (values[x] + _ONE)
        square = share * share
        series = np.float32(1 / 5) + square * np.float32(1 / 7)
        series = _ONE + square * (np.float32(1 / 3) + square * series)
        values[x] = scale * (np.float32(power) * np.float32(0.6931471805599453) + _TWO * share * series)


@compiled
def _call_up(roots: Plane, shares: Plane, evidence: Evidence, k: int, y: int, numbers: Plane) -> None:
    """Call up the witnesses that events carry, in a row at a key time: square roots of light, and trust, 0 if cut off.

    Args:
        roots, shares: [3, W or more], written; what is beyond W repeats the last pixel.
    """
    constants, opened, closed, times, gains, counts = evidence[:6]
    dark, brightest, noise, least = numbers[0], numbers[1], numbers[2], numbers[3]
    width = gains.shape[2]
    gain, now = gains[k, y], counts[k, y]
    for n in range(3):
        share, constant, before, after = times[k, n, y], constants[n, y], opened[n, y], closed[n, y]
        for x in range(width):
            light = (constant[x] * gain[x] - dark) / _LEVELS
            roots[n, x] = np.sqrt(min(max(light, _ZERO), brightest))
            between = max(now[x], after[x]) - min(now[x], before[x])
            shares[n, x] = max(share / (between + noise), least) if share > _ZERO else _ZERO
        roots[n, width:], shares[n, width:] = roots[n, width - 1], shares[n, width - 1]


@compiled
def _interleave(row: Maps, channels: Plane) -> None:
    """Write [c, w] as a row of pixels, channels beside each other.

    Args:
        row: [w, c] float32, written; or [w, c / 2] uint32, each of which holds the bits of two as bfloat16.
        channels: [c, w], an even number.
    """
    if row.shape[1] == len(channels):
        for x in range(len(row)):
            for c in range(len(channels)):
                row[x, c] = channels[c, x]
        return
    half, odd, upper = np.uint32(0x7FFF), np.uint32(1), np.uint32(0xFFFF0000)
    packed = np.empty((len(channels) // 2, len(row)), np.uint32)
    for c in range(len(packed)):
        first, second, own = channels[2 * c].view(np.uint32), channels[2 * c + 1].view(np.uint32), packed[c]
        for x in range(len(own)):
            # To the nearest, to an even one of two.
            lower = (first[x] + half + ((first[x] >> np.uint32(16)) & odd)) >> np.uint32(16)
            own[x] = lower | ((second[x] + half + ((second[x] >> np.uint32(16)) & odd)) & upper)
    for x in range(len(row)):
        for c in range(len(packed)):
            row[x, c] = packed[c, x]
