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
_ONE, _ZERO = np.float32(1), np.float32(0)


@compiled
def expose_wide(
    light: Plane,
    state: tuple[Plane, Plane],
    records: tuple[NDArray[np.int64], NDArray[np.int64]],
    nodes: Nodes,
    planes: tuple[Plane, Plane],
    alone: NDArray[np.int64],
    numbers: tuple[float, float],
    work: Work,
) -> None:
    """Expose rows over a time: `DoubleIntegral._expose_wide`.

    The mean of the gain is exact to the event. Where two planes are blended, so is each of the gain's pieces in the sum
    over nodes: sums up to every node are known by the numbers of events since both planes, which are small and whole.
    All is relative to the end of the exposure: an event changes what was before it. Events are first laid out by bands
    of rows: what is known of a band's pixels stays in the second nearest cache.

    Args:
        light: [C, H, W], written: levels >= 0.
        state: gain and count of the events until the exposure begins [H, W]; changed.
        records: of `lay_out`.
        nodes: of the exposure.
        planes: constants and counts, as of `expose_instants`, of at most two planes.
        alone: [H or 1], which plane tells a row all by itself, or -1.
        numbers: as of `expose_instants`.
        work: as it says.
    """
    (gain, count), (constants, counts), sums_of = state, planes, work[2]
    starts, ends = records
    height, width = gain.shape
    floor, noise = np.float32(numbers[0]), np.float32(numbers[1])
    is_flat = len(alone) == 1
    tables = _tables(nodes, noise, _TABLED if (alone < 0).any() and is_flat else 0)
    totals = np.ascontiguousarray(tables[:, :, -1, 0]).reshape(-1)
    rows = sums_of.shape[1] // width
    means, shares = np.empty(width, np.float32), np.empty(width, np.float32)
    for band in range(len(starts)):
        first_row = band * rows
        until_row = min(first_row + rows, height)
        of_band = slice(first_row, until_row)
        changed, since = (gain[of_band], count[of_band]), (counts[0, of_band], counts[1, of_band])
        _change(work, (starts[band], ends[band]), first_row, changed, since, nodes, alone, tables, noise)
        for y in range(first_row, until_row):
            row = 0 if is_flat else y
            k = alone[row]
            of_row = slice((y - first_row) * width, (y + 1 - first_row) * width)
            mean_sums, share_sums = sums_of[0, of_row], sums_of[1, of_row]
            for x in range(width):
                means[x] = gain[y, x] + mean_sums[x]
            if k < 0:
                _sum_row(shares, totals, nodes, row, count[y], counts[0, y], counts[1, y], noise)
                for x in range(width):
                    shares[x] = shares[x] * gain[y, x] + share_sums[x]
            for x in range(width):
                mean_sums[x] = share_sums[x] = _ZERO
            for c in range(constants.shape[1]):
                if k >= 0:
                    _carry_row(light[c, y], means, constants[k, c, y], floor)
                else:
                    _mix_row(light[c, y], means, shares, constants[0, c, y], constants[1, c, y], floor)


@compiled
def _change(
    work: Work,
    which: tuple[int, int],
    first_row: int,
    state: tuple[Plane, Plane],
    since: tuple[Plane, Plane],
    nodes: Nodes,
    alone: NDArray[np.int64],
    tables: Plane,
    noise: np.float32,
) -> None:
    """Let the events of a band change gain and count, and sum up what they changed before they came.

    Args:
        work: its records are read, its sums are changed.
        which: the band's first record, and the one after its last.
        first_row: of the band.
        state: gain and count of the band's rows [h, W]; changed.
        since: events until both planes [h, W].
        nodes, alone: of the exposure.
        tables: of `_tables`.
        noise: in events.
    """
    (values, places_of, _), mean_sums, share_sums = work, work[2][0], work[2][1]
    gain, count = state[0].reshape(-1), state[1].reshape(-1)
    opened, closed = since[0].reshape(-1), since[1].reshape(-1)
    width, is_flat, many, size = state[0].shape[1], len(alone) == 1, len(nodes[0]), len(tables)
    known = tables.reshape(-1, 2)
    first_cell, steps = np.uint64(first_row * width), np.float32(many + 1)
    row: Any = 0
    for k in range(np.uint64(which[0]), np.uint64(which[1])):
        cell = np.uint64(places_of[k, 1]) - first_cell
        if not is_flat:
            row = first_row + _row_of(cell, width)
        before, seen, rest = gain[cell], values[k, 2], values[k, 3]
        after, is_within = before * values[k, 0], rest >= _ZERO
        change = after - before
        mean_sums[cell] += change * seen
        if alone[row] < 0:
            until, reached = places_of[k, 6] if is_within else many, places_of[k, 7]
            number = count[cell]
            first, second = max(number - opened[cell], _ZERO), max(closed[cell] - number, _ZERO)
            if max(first + _ONE, second) < np.float32(size):
                place = np.int64((first * np.float32(size) + second) * steps)
                at, on = np.uint64(place + until), np.uint64(place + reached)
                then = np.uint64(place + until + (many + 1) * (size - (1 if second > _ZERO else 0)))
                sum_at, moment_at, sum_on, moment_on = known[at, 0], known[at, 1], known[on, 0], known[on, 1]
                sum_then = known[then, 0]
            else:
                sum_at, moment_at = _summed(nodes, row, until, first, second, noise)
                sum_on, moment_on = _summed(nodes, row, reached, first, second, noise)
                sum_then, _ = _summed(nodes, row, until, first + _ONE, max(second - _ONE, _ZERO), noise)
            blended = change * ((moment_at - moment_on) * values[k, 4] - (sum_at - sum_on) * values[k, 5])
            if is_within:
                blended += before * sum_at - after * sum_then
            share_sums[cell] += blended
        if is_within:
            gain[cell] = after
            count[cell] += _ONE


@compiled
def _mix_row(light: Plane, means: Plane, shares: Plane, first: Plane, second: Plane, floor: np.float32) -> None:
    """Write the light of a row from the mean gain and the part of it that is the second plane's: [W] all."""
    for x in range(len(light)):
        light[x] = max(first[x] * means[x] + (second[x] - first[x]) * shares[x] - floor, _ZERO)


@compiled
def _tables(nodes: Nodes, noise: np.float32, size: int) -> Plane:
    """Sum the second plane's shares in the first nodes, and their moments, by events since both planes.

    Returns:
        [size, size, M + 1, 2], from no node to all of them.
    """
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
    """Sum the second plane's shares in the first nodes, and their moments, as `_tables`."""
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
    shares: Plane,
    sums: Plane,
    nodes: Nodes,
    row: int,
    count: Plane,
    opened: Plane,
    closed: Plane,
    noise: np.float32,
) -> None:
    """Write the sum over all nodes of the second plane's share in the pixels of a row: from [size size] `sums`."""
    _, weights, time_share, _ = nodes
    places = np.empty(len(shares), np.int32)
    side, beyond = np.float32(np.sqrt(len(sums))), len(sums) == 0
    for x in range(len(shares)):
        first, second = max(count[x] - opened[x], _ZERO), max(closed[x] - count[x], _ZERO)
        places[x] = np.int32(first * side + second)
        beyond |= (first >= side) | (second >= side)
    if not beyond:
        for x in range(len(shares)):
            shares[x] = sums[np.uint32(places[x])]
        return
    for x in range(len(shares)):
        shares[x] = _ZERO
    for k in range(len(weights)):
        weight, share = weights[k, row], time_share[k, row]
        for x in range(len(shares)):
            after = share * (max(count[x] - opened[x], _ZERO) + noise)
            before = (_ONE - share) * (max(closed[x] - count[x], _ZERO) + noise)
            shares[x] += weight * (after / (after + before))


@compiled
def _carry_row(light: Plane, gain: Plane, constant: Plane, floor: np.float32) -> None:
    """Write the light of a row that one plane tells: [W] all."""
    for x in range(len(light)):
        light[x] = max(constant[x] * gain[x] - floor, _ZERO)


@compiled
def _row_of(cell: np.uint64, width: int) -> Any:
    """Divide by the width: as a product, which takes a tenth of the time; exact for all 31 bits of a pixel's place."""
    return int((np.float64(cell) + 0.5) * (1.0 / np.float64(width)))
