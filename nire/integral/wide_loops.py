"""Loops that expose shutters over a time from what a sweep has left, compiled for the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nire.compiled import compiled
from nire.integral.event_loops import Plane, Times
from nire.integral.layout_loops import Grid, Work

Nodes = tuple[Times, Plane, Plane, Grid]
"""Where an exposure is summed: event times [M, H or 1], their weights, 1 in all, how far each is by time from the first
plane to the second, 0 to 1, and the grid that all but the first and the last lie on."""
# Events since a plane that tables of an exposure reach to; more of them are summed each time.
_TABLED = 24
# Where the number of events until the second plane stands in a word, above that of those since the first one.
_LEFT = 1 << 16
_ONE, _ZERO = np.float32(1), np.float32(0)


@compiled
def expose_wide(
    light: Plane,
    which: tuple[int, int],
    state: tuple[Plane, Plane],
    records: tuple[NDArray[np.int64], NDArray[np.int64]],
    nodes: Nodes,
    planes: tuple[Plane, Plane],
    alone: NDArray[np.int64],
    tables: Plane,
    numbers: tuple[float, float],
    work: Work,
) -> None:
    """Expose rows over a time: `DoubleIntegral._expose_wide`.

    The mean of the gain is exact to the event. Where two planes are blended, so is each of the gain's pieces in the sum
    over nodes: sums up to every node are known by the numbers of events since both planes, which are small and whole.
    All is relative to the end of the exposure: an event changes what was before it. Events are first laid out by bands
    of rows: what is known of a band's pixels stays in the second nearest cache.

    Args:
        light: [C, H or less, W], written: levels >= 0 of the rows of these bands.
        which: the first band to be exposed, and the one after the last.
        state: gain and count of the events until the exposure begins [H, W].
        records: of `lay_out`.
        nodes: of the exposure.
        planes: constants and counts, as of `expose_instants`, of at most two planes.
        alone: [H or 1], which plane tells a row all by itself, or -1.
        tables: of `tabled`.
        numbers: as of `expose_instants`.
        work: as it says.
    """
    (gain, count), (constants, counts) = state, planes
    (starts, ends), (floor, noise) = records, (np.float32(numbers[0]), np.float32(numbers[1]))
    height, width = gain.shape
    is_flat, (events, pixels) = len(alone) == 1, work
    rows = len(pixels) // width
    totals = np.ascontiguousarray(tables[:, :, -1, 0]).reshape(-1)
    means, shares = np.empty(width, np.float32), np.empty(width, np.float32)
    for band in range(which[0], which[1]):
        first_row = band * rows
        until_row = min(first_row + rows, height)
        for y in range(first_row, until_row):
            of_row = pixels[(y - first_row) * width : (y + 1 - first_row) * width]
            _gather_row(of_row, gain[y], count[y], counts[0, y], counts[1, y])
        _change(events[starts[band] : ends[band]], pixels, (first_row, width), nodes, alone, tables, noise)
        for y in range(first_row, until_row):
            row = 0 if is_flat else y
            of_row, k = pixels[(y - first_row) * width : (y + 1 - first_row) * width], alone[row]
            _sum_row(means, shares, of_row, totals, nodes, (row, k), noise)
            for c in range(constants.shape[1]):
                levels = light[c, y - which[0] * rows]
                if k >= 0:
                    _carry_row(levels, means, constants[k, c, y], floor)
                else:
                    _mix_row(levels, means, shares, constants[0, c, y], constants[1, c, y], floor)


@compiled
def _gather_row(pixels: NDArray[Any], gain: Plane, count: Plane, opened: Plane, closed: Plane) -> None:
    """Lay a row out pixel by pixel, so that an event finds all of it in one place: [W] all."""
    for x in range(np.uint64(len(gain))):
        since, left = np.int32(max(count[x] - opened[x], _ZERO)), np.int32(max(closed[x] - count[x], _ZERO))
        pixel = pixels[x]
        pixel.gain, pixel.mean, pixel.share, pixel.number = gain[x], _ZERO, _ZERO, since + left * np.int32(_LEFT)


@compiled
def _change(
    events: NDArray[Any],
    pixels: NDArray[Any],
    place: tuple[int, int],
    nodes: Nodes,
    alone: NDArray[np.int64],
    tables: Plane,
    noise: np.float32,
) -> None:
    """Let the events of a band change gain and count, and sum up what they changed before they came.

    Args:
        events: `EVENT`, of the band.
        pixels: `PIXEL`, of the band; changed.
        place: the first row of the band, and the width of the image.
        nodes, alone: of the exposure.
        tables: of `tabled`.
        noise: in events.
    """
    is_flat, size, known = len(alone) == 1, np.uint64(len(tables)), tables.reshape(-1, 2)
    is_blended, row, one, many = alone[0] < 0, 0, np.uint64(1), np.uint64(len(nodes[0]))
    steps = many + one
    first_cell = np.uint64(place[0] * place[1])
    for k in range(np.uint64(len(events))):
        event = events[k]
        cell = np.uint64(event.cell) - first_cell
        pixel, until, is_within = pixels[cell], np.uint64(event.until), event.until < many
        before, after = pixel.gain, pixel.gain * event.factor
        change = after - before
        pixel.mean += change * event.seen
        first, second = np.uint64(pixel.number & np.int32(_LEFT - 1)), np.uint64(pixel.number >> np.int32(16))
        fewer = second - min(second, one)
        if not is_flat:
            row = place[0] + _row_of(cell, place[1])
            is_blended = alone[row] < 0
        if is_blended:
            reached = np.uint64(event.reached)
            if max(first + one, second) < size:
                start = (first * size + second) * steps
                at, on, then = start + until, start + reached, ((first + one) * size + fewer) * steps + until
                sum_at, moment_at, sum_on, moment_on = known[at, 0], known[at, 1], known[on, 0], known[on, 1]
                sum_then = known[then, 0]
            else:
                since, left = np.float32(first), np.float32(second)
                sum_at, moment_at = _summed(nodes, row, int(until), since, left, noise)
                sum_on, moment_on = _summed(nodes, row, int(reached), since, left, noise)
                sum_then, _ = _summed(nodes, row, int(until), since + _ONE, np.float32(fewer), noise)
            blended = change * ((moment_at - moment_on) * event.per_lead - (sum_at - sum_on) * event.in_leads)
            if is_within:
                blended += before * sum_at - after * sum_then
            pixel.share += blended
        if is_within:
            pixel.gain, pixel.number = after, np.int32(first + one + fewer * np.uint64(_LEFT))


@compiled
def _mix_row(light: Plane, means: Plane, shares: Plane, first: Plane, second: Plane, floor: np.float32) -> None:
    """Write the light of a row from the mean gain and the part of it that is the second plane's: [W] all."""
    for x in range(len(light)):
        light[x] = max(first[x] * means[x] + (second[x] - first[x]) * shares[x] - floor, _ZERO)


@compiled
def tabled(nodes: Nodes, alone: NDArray[np.int64], noise_events: float) -> Plane:
    """Sum the second plane's shares in the first nodes, and their moments, by events since both planes.

    Args:
        nodes, alone: of the exposure.
        noise_events: by which a plane is wrong before any event happened.

    Returns:
        [size, size, M + 1, 2], from no node to all of them. The size is 0 where rows have their own times, or none has
        both planes.
    """
    size, noise = _TABLED if len(alone) == 1 and alone[0] < 0 else 0, np.float32(noise_events)
    node_us, weights, time_share, _ = nodes
    tables = np.empty((size, size, len(node_us) + 1, 2), np.float32)
    parts, since = np.empty(len(node_us), np.float32), np.empty(len(node_us), np.float32)
    for k in range(len(node_us)):
        since[k] = np.float32(node_us[k, 0] - node_us[0, 0])
    for first in range(size):
        for second in range(size):
            for k in range(len(parts)):
                after = time_share[k, 0] * (np.float32(first) + noise)
                before = (_ONE - time_share[k, 0]) * (np.float32(second) + noise)
                parts[k] = weights[k, 0] * (after / (after + before))
            total, moment = _ZERO, _ZERO
            for k in range(len(parts)):
                tables[first, second, k, 0], tables[first, second, k, 1] = total, moment
                total += parts[k]
                moment += parts[k] * since[k]
            tables[first, second, len(parts), 0], tables[first, second, len(parts), 1] = total, moment
    return tables


@compiled
def _summed(
    nodes: Nodes, row: int, many: int, first: np.float32, second: np.float32, noise: np.float32
) -> tuple[np.float32, np.float32]:
    """Sum the second plane's shares in the first nodes, and their moments, as `tabled`."""
    node_us, weights, time_share, _ = nodes
    total, moment = _ZERO, _ZERO
    for k in range(many):
        after = time_share[k, row] * (first + noise)
        part = weights[k, row] * (after / (after + (_ONE - time_share[k, row]) * (second + noise)))
        total += part
        moment += part * np.float32(node_us[k, row] - node_us[0, row])
    return total, moment


@compiled
def _sum_row(
    means: Plane,
    shares: Plane,
    pixels: NDArray[Any],
    totals: Plane,
    nodes: Nodes,
    place: tuple[int, int],
    noise: np.float32,
) -> None:
    """Write the mean gain of a row's pixels, and the part of it that is the second plane's.

    Args:
        means, shares: [W], written; the latter where both planes tell the row.
        pixels: `PIXEL` [W].
        totals: [size size], sums over all nodes.
        nodes: of the exposure.
        place: the row among those of nodes, and which plane tells it alone, or -1.
        noise: in events.
    """
    _, weights, time_share, _ = nodes
    gains, numbers = np.empty(len(means), np.float32), np.empty(len(means), np.int32)
    side, most = np.int32(np.sqrt(len(totals))), np.int32(-1)
    for x in range(np.uint64(len(means))):
        pixel = pixels[x]
        gains[x], shares[x], numbers[x] = pixel.gain, pixel.share, pixel.number
        means[x] = pixel.gain + pixel.mean
    if place[1] >= 0:
        return
    for x in range(len(numbers)):
        most = max(most, numbers[x] & np.int32(_LEFT - 1), numbers[x] >> np.int32(16))
    if most < side:
        for x in range(len(shares)):
            known = (numbers[x] & np.int32(_LEFT - 1)) * side + (numbers[x] >> np.int32(16))
            shares[x] += totals[np.uint32(known)] * gains[x]
        return
    sums = np.zeros(len(means), np.float32)
    for k in range(len(weights)):
        weight, share = weights[k, place[0]], time_share[k, place[0]]
        for x in range(len(shares)):
            after = share * (np.float32(numbers[x] & np.int32(_LEFT - 1)) + noise)
            before = (_ONE - share) * (np.float32(numbers[x] >> np.int32(16)) + noise)
            sums[x] += weight * (after / (after + before))
    for x in range(len(shares)):
        shares[x] += sums[x] * gains[x]


@compiled
def _carry_row(light: Plane, gain: Plane, constant: Plane, floor: np.float32) -> None:
    """Write the light of a row that one plane tells: [W] all."""
    for x in range(len(light)):
        light[x] = max(constant[x] * gain[x] - floor, _ZERO)


@compiled
def _row_of(cell: np.uint64, width: int) -> Any:
    """Divide by the width: as a product, which takes a tenth of the time; exact for all 31 bits of a pixel's place."""
    return int((np.float64(cell) + 0.5) * (1.0 / np.float64(width)))
