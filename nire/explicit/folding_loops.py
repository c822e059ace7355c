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
        body: [h, w, 9 (K + 1) + 2 K + 8], written.
        head: [K + 1, h, w, 27], written.
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
    own, seen = np.empty((27, across), np.float32), np.empty((body.shape[2], across), np.float32)
    for r in range(rows[0], rows[1]):
        pair = (min(2 * r, height - 1), min(2 * r + 1, height - 1))
        for k in range(planes - 1):
            _events_of(number[k + 1], change[k + 1], gains, counts, k, pair)
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
                for corner in range(2):
                    at = 2 * n + corner
                    own[at], own[4 + at], own[16 + at] = first[corner::2], second[corner::2], past[corner::2]
                    own[8 + at], own[12 + at] = from_first[corner::2], from_second[corner::2]
                    seen[4 * k + at] = mixed[n, corner::2]
            for x in range(across):
                left, right = 2 * x, 2 * x + 1
                for n in range(4):
                    seen[4 * (planes + k) + n, x] = (apart[n, left] + apart[n, right]) * _QUARTER
                for n in range(3):
                    upper = max(shares[0, n, left], cut) * max(shares[0, n, right], cut)
                    lower = max(shares[1, n, left], cut) * max(shares[1, n, right], cut)
                    # A quarter for the mean of four pixels, and a quarter as the network was taught.
                    own[20 + n, x] = np.log(upper * lower) * (_QUARTER * _QUARTER)
                seen[8 * planes + k, x] = max(own[20, x], own[21, x])
            own[23:25], own[25:27] = number[k : k + 2], change[k : k + 2]
            _interleave(head[k, r], own)
        seen[9 * planes : 10 * planes - 1], seen[10 * planes - 1 : 11 * planes - 2] = number[1:planes], change[1:planes]
        for frame in range(2):
            for n in range(2):
                mixed[n, :width], mixed[n, width:] = frames[frame, pair[n]], frames[frame, pair[n], width - 1]
                at = 11 * planes - 2 + 4 * frame + 2 * n
                seen[at], seen[at + 1] = mixed[n, ::2], mixed[n, 1::2]
        _interleave(body[r], seen)


@compiled
def _events_of(number: Plane, change: Plane, gains: Plane, counts: Plane, k: int, rows: tuple[int, int]) -> None:
    """Tell of the events of a bin in two rows: the means of log(1 + number) and of the change of log light, [w]."""
    width = gains.shape[2]
    for x in range(len(number)):
        events, ratio = _ONE, _ONE
        for y in rows:
            for column in (min(2 * x, width - 1), min(2 * x + 1, width - 1)):
                events *= _ONE + max(counts[k + 1, y, column] - counts[k, y, column], _ZERO)
                ratio *= gains[k + 1, y, column] / gains[k, y, column]
        number[x], change[x] = np.log(events) * _QUARTER, np.log(ratio) * _QUARTER


@compiled
def blend(planes: Plane, said: Maps, evidence: Evidence, rows: tuple[int, int], numbers: Plane, prior: Plane) -> None:
    """Follow what the layers say, from row `rows[0]` of maps to before row `rows[1]`: `network.blended`.

    Args:
        planes: [K + 1, H, W], written.
        said: float32 [K + 1, h, w, 4 + 5 + 3], hyperbolic tangents.
        evidence, rows, numbers: as of `fold`.
        prior: [5], by which the trust in each witness is multiplied.
    """
    count, height, width = planes.shape
    tall, wide = 2 * said.shape[1], 2 * said.shape[2]
    # What is calmed in a row depends on seven more on each side, 1 + 2 + 4.
    first, end = max(2 * rows[0] - 7, 0), min(2 * rows[1] + 7, tall)
    mixed, smoother = np.empty((end - first, wide), np.float32), np.empty((end - first, wide), np.float32)
    heard = np.empty((3, 5, wide), np.float32)
    for k in range(count):
        for y in range(first, end):
            _mix(mixed[y - first], heard, said[k, y // 2], evidence, (k, min(y, height - 1)), numbers, prior)
        own = planes[k, 2 * rows[0] : min(2 * rows[1], height)]
        own[:] = mixed[2 * rows[0] - first :, :width][: len(own)]
        _calm(own, mixed, smoother, said[k], first, 2 * rows[0])
        for n in range(len(own)):
            cells = said[k, rows[0] + n // 2]
            for x in range(width):
                own[n, x] += cells[x // 2, 2 * (n % 2) + x % 2]


@compiled
def _mix(
    mixed: Plane,
    heard: Plane,
    cells: Maps,
    evidence: Evidence,
    place: tuple[int, int],
    numbers: Plane,
    prior: Plane,
) -> None:
    """Mix the witnesses in a row by how far they are trusted.

    Args:
        mixed: [2 w], written; what is beyond W repeats the last pixel's witnesses.
        heard: [3, 5, 2 w], scratch.
        cells: [w, 4 + 5 + 3], of `said`.
        evidence, numbers, prior: as of `blend`.
        place: key time and row.
    """
    k, y = place
    moved, moved_shares, width = evidence[6], evidence[7], evidence[4].shape[2]
    roots, shares, swayed = heard[0], heard[1], heard[2]
    _call_up(roots, shares, evidence, k, y, numbers)
    roots[4], shares[4] = roots[2], shares[2]
    for n in range(2):
        roots[2 + n, :width], roots[2 + n, width:] = moved[k, n, y], moved[k, n, y, width - 1]
        shares[2 + n] = moved_shares[k, n]
    told = mixed[: len(cells)]
    for n in range(5):
        for x in range(len(told)):
            told[x] = cells[x, 4 + n] * numbers[6]
        _exponentials(told)
        for x in range(len(told)):
            swayed[n, 2 * x], swayed[n, 2 * x + 1] = told[x], told[x]
    for n in range(5):
        bias, shut, share, light, factor = prior[n], numbers[5], shares[n], roots[n], swayed[n]
        for x in range(len(mixed)):
            share[x] = max(share[x] * bias, shut) * factor[x]
            light[x] *= share[x]
    for n in range(1, 5):
        for x in range(len(mixed)):
            shares[0, x] += shares[n, x]
            roots[0, x] += roots[n, x]
    for x in range(len(mixed)):
        mixed[x] = roots[0, x] / shares[0, x]


@compiled
def _calm(own: Plane, mixed: Plane, smoother: Plane, cells: Maps, first: int, top: int) -> None:
    """Take details away from some rows of a plane, size by size: `network.calmed`.

    Args:
        own: [n, W], changed.
        mixed: [m, 2 w], what it was made of, and 7 rows more on each side where the plane has them; overwritten.
        smoother: as `mixed`, scratch.
        cells: [h, w, 4 + 5 + 3], of `said`.
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
                    amount = (_ONE + cells[y // 2, x, 9 + size]) * _HALF
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
    """Write [c, w] as a row [w, c] of float32, or of uint16 for the bits of bfloat16."""
    if row.itemsize == 4:
        for x in range(len(row)):
            for c in range(len(channels)):
                row[x, c] = channels[c, x]
        return
    narrow = np.empty(channels.shape, np.uint16)
    for c in range(len(channels)):
        bits, own = channels[c].view(np.uint32), narrow[c]
        for x in range(len(own)):
            # To the nearest, to an even one of two.
            own[x] = (bits[x] + np.uint32(0x7FFF) + ((bits[x] >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    for x in range(len(row)):
        for c in range(len(channels)):
            row[x, c] = narrow[c, x]
