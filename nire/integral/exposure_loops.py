"""Loops that expose shutters from what a sweep has left, compiled for the CPU.

Each stands in for operations of torch, as those of `loops.py` do; it says which. Times are event time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
Grid = tuple[int, int, NDArray[np.int64]]
"""Event time of an edge of bins, us from one to the next, and after how many of them exposures begin [H or 1]."""
Nodes = tuple[Times, Plane, Plane, Grid]
"""Where an exposure is summed: event times [M, H or 1], their weights, 1 in all, how far each is by time from the first
plane to the second, 0 to 1, and the grid that all but the first and the last lie on."""

Work = tuple[Plane, NDArray[np.int32], Plane]
"""Where exposures over a time are worked out: records of events [N, 8], as float32 and as int32, one of them for each
event that they may see; and two sums of each pixel of a band of rows [2, h W], zero, and zero again afterwards."""

NO_LIGHT = np.empty((0, 0, 0, 0), np.float32)
NO_IMAGES = np.empty((0, 0, 0, 0), np.uint8)
ROUNDED = np.empty(0, np.uint8)
# Between two planes with fewer events than this of a pixel there are none: its light moves with time.
_NO_EVENTS = np.float32(1e-6)
# In the time of one event so many pixels of two planes are copied.
_PIXELS_PER_EVENT = 4
# Events since a plane that tables of an exposure reach to; more of them are summed each time.
_TABLED = 24
# Pixels of a band of rows: 24 bytes of each are kept near.
BAND = 40_000
# Events that are timed at once: what is told of them stays in the nearest cache.
_CHUNK = 512
_ONE, _ZERO = np.float32(1), np.float32(0)


@compiled
def expose_instants(
    target: Target,
    held: Held,
    swept: Swept,
    at_us: Times,
    between: tuple[NDArray[np.int64], Plane],
    constants: Plane,
    counts: Plane,
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
        numbers: what constants have more than light; and the events by which a plane is wrong before any happened, for
            planes that are trusted by the events since, or 0 for such that meet where the events between them do.
    """
    key, time_share = between
    shares = numbers[1] == 0
    for q in range(len(at_us)):
        settle(held, swept, at_us[q])
        many = ramp(held[0], held[2], swept, at_us[q], shares)
        _expose(target, q, held[0], (key[q], time_share[q]), constants, counts, numbers)
        restore(held[0], held[2], many, shares)


@compiled
def _expose(
    target: Target,
    q: int,
    state: tuple[Plane, Plane],
    between: tuple[NDArray[np.int64], Plane],
    constants: Plane,
    counts: Plane,
    numbers: tuple[float, float],
) -> None:
    """Write an instant whose gain and count are there."""
    light, images, encoding = target
    (gain, count), (key, time_share) = state, between
    floor, noise = np.float32(numbers[0]), np.float32(numbers[1])
    down, across = int(key.shape[0] > 1), int(key.shape[1] > 1)
    height, width = gain.shape
    # Row by row; pixel by pixel where each has its own time.
    part = 1 if across else width
    shares, row = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(height):
        for x in range(0, width, part):
            pixels = slice(x, x + part)
            k, share = key[down * y, across * x], time_share[down * y, across * x]
            is_alone = len(constants) == 1 or (noise > _ZERO and not _ZERO < share < _ONE)
            if is_alone:
                k += int(share == _ONE and len(constants) > 1)
            elif noise > _ZERO:
                _trust_row(
                    shares[pixels], count[y, pixels], counts[k, y, pixels], counts[k + 1, y, pixels], share, noise
                )
            else:
                _share_row(shares[pixels], count[y, pixels], counts[k, y, pixels], counts[k + 1, y, pixels], share)
            for c in range(constants.shape[1]):
                exposed = light[q, c, y, pixels] if len(light) > 0 else row[:part]
                if is_alone:
                    _carry_row(exposed, gain[y, pixels], constants[k, c, y, pixels], floor)
                else:
                    first, second = constants[k, c, y, pixels], constants[k + 1, c, y, pixels]
                    _expose_row(exposed, shares[pixels], gain[y, pixels], first, second, floor)
                if len(images) > 0:
                    _encode_row(images[q, y, pixels], c, exposed, encoding)


@compiled
def expose_wide(
    target: Target,
    q: int,
    held: Held,
    swept: Swept,
    span_us: tuple[Times, Times],
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
        target: exposure `q` of it is written.
        held: changed.
        swept: key planes and events.
        span_us: event time, [H or 1, 1] both.
        nodes: of the exposure.
        planes: constants and counts, as of `expose_instants`, of at most two planes.
        alone: [H or 1], which plane tells a row all by itself, or -1.
        numbers: as of `expose_instants`.
        work: as it says.
    """
    light, images, encoding = target
    (gain, count), (constants, counts), sums_of = held[0], planes, work[2]
    open_us, grid = span_us[0], nodes[3]
    settle(held, swept, open_us)
    held[1][0] = -1
    height, width = gain.shape
    floor, noise = np.float32(numbers[0]), np.float32(numbers[1])
    is_flat = len(open_us) == 1
    tables = _tables(nodes, noise, _TABLED if (alone < 0).any() and is_flat else 0)
    totals = np.ascontiguousarray(tables[:, :, -1, 0]).reshape(-1)
    rows = sums_of.shape[1] // width
    starts, ends = _lay_out(work, swept, span_us, grid, (rows * width, -(-height // rows)), width)
    means, shares = np.empty(width, np.float32), np.empty(width, np.float32)
    row_of_levels = np.empty(width, np.float32)
    for band in range(len(starts)):
        first_row = band * rows
        until_row = min(first_row + rows, height)
        of_band = slice(first_row, until_row)
        state, since = (gain[of_band], count[of_band]), (counts[0, of_band], counts[1, of_band])
        _change(work, (starts[band], ends[band]), first_row, state, since, nodes, alone, tables, noise)
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
                levels = light[q, c, y] if len(light) > 0 else row_of_levels
                if k >= 0:
                    _carry_row(levels, means, constants[k, c, y], floor)
                else:
                    _mix_row(levels, means, shares, constants[0, c, y], constants[1, c, y], floor)
                if len(images) > 0:
                    _encode_row(images[q, y], c, levels, encoding)


@compiled
def _lay_out(
    work: Work, swept: Swept, span_us: tuple[Times, Times], grid: Grid, bands: tuple[int, int], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay what is to be known of an exposure's events out by bands of rows, each in the order of time.

    Args:
        work: records are written.
        swept: key planes and events.
        span_us, grid: of the exposure.
        bands: pixels of a band, and how many bands there are.
        width: of the image.

    Returns:
        The first record of each band, and the one after its last.
    """
    values, places_of, _ = work
    cells, factors, per_band = swept[1][0], swept[1][3], bands[0]
    begin = np.searchsorted(swept[1][1], int(span_us[0].min()), side="right")
    end = max(begin, np.searchsorted(swept[1][1], int(span_us[1].max() + swept[3]), side="right"))
    many = np.zeros(bands[1], np.int64)
    for cell in cells[begin:end]:
        many[np.uint64(_row_of(np.uint64(cell), per_band))] += 1
    starts = np.cumsum(many) - many
    ends = starts.copy()
    times, places = np.empty((4, _CHUNK), np.float32), np.empty((3, _CHUNK + 1), np.int32)
    for first_event in range(begin, end, _CHUNK):
        which = first_event, min(first_event + _CHUNK, end)
        chosen = _time_events(times, places, swept, which, span_us, grid, width)
        for n in range(np.uint64(chosen)):
            event = np.uint64(places[0, n])
            k = np.uint64(first_event) + event
            band = np.uint64(_row_of(np.uint64(cells[k]), per_band))
            record = np.uint64(ends[band])
            ends[band] += 1
            values[record, 0], places_of[record, 1] = factors[k], cells[k]
            values[record, 2], values[record, 3] = times[0, event], times[1, event]
            values[record, 4], values[record, 5] = times[2, event], times[3, event]
            places_of[record, 6], places_of[record, 7] = places[1, event], places[2, event]
    return starts, ends


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
def _time_events(
    times: Plane,
    places: NDArray[np.int32],
    swept: Swept,
    which: tuple[Any, Any],
    span_us: tuple[Times, Times],
    grid: Grid,
    width: int,
) -> int:
    """Tell of some events what does not depend on their pixels' gain: many at a time, without branches.

    Args:
        times: [4, n], written: how much of the exposure sees the change, less 1 where the event lies within; us from
            the event to the end; one over the length of its ramp, us; and how far from the start the ramp begins, in
            such lengths.
        places: [3, n + 1], written: which of the events do something, n of them; nodes before each one, and before its
            ramp.
        swept: key planes and events.
        which: the first event, and the one after the last.
        span_us, grid: of the exposure.
        width: of the image.

    Returns:
        How many do something.
    """
    cells, t_us, leads, factors = swept[1]
    t0_us, bin_us, bins = grid
    reach, per_bin, half = np.float32(swept[3]), np.float32(1.0 / bin_us), np.float32(0.5)
    many = which[1] - which[0]
    if len(bins) == 1:
        open_us, close_us, edge_us = span_us[0][0, 0], span_us[1][0, 0], t0_us + bin_us * bins[0]
        for n in range(np.uint64(many)):
            now_us = t_us[np.uint64(which[0]) + n]
            times[0, n], times[1, n] = np.float32(now_us - open_us), np.float32(close_us - now_us)
            times[2, n] = np.float32(now_us - edge_us)
    else:
        for n in range(np.uint64(many)):
            now_us, row = t_us[np.uint64(which[0]) + n], _row_of(np.uint64(cells[np.uint64(which[0]) + n]), width)
            times[0, n], times[1, n] = np.float32(now_us - span_us[0][row, 0]), np.float32(span_us[1][row, 0] - now_us)
            times[2, n] = np.float32(now_us - (t0_us + bin_us * bins[row]))
    since_start, to_end, since_edge, in_leads = times[0], times[1], times[2], times[3]
    acts, before, before_ramp = places[0], places[1], places[2]
    lengths, changes = leads[which[0] : which[1]], factors[which[0] : which[1]]
    for n in range(np.uint64(many)):
        since, rest, edge, lead = since_start[n], to_end[n], since_edge[n], min(lengths[n], reach)
        seen = _seen(since, rest, lead) / (since + rest)
        # Nodes are the start and the edges after it. Edges and events are whole microseconds.
        before[n] = np.int32((edge - half) * per_bin) + np.int32(1)
        before_ramp[n] = np.int32((edge - lead) * per_bin) + np.int32(1) if since >= lead else np.int32(0)
        does = (since > _ZERO) & (lead > -rest) & (changes[n] != _ONE)
        since_start[n] = seen - (_ONE if rest >= _ZERO else _ZERO)
        since_edge[n] = (_ONE if does else _ZERO) / max(lead, half)
        in_leads[n] = (since - lead) / max(lead, half)
    chosen = 0
    for n in range(np.uint64(many)):
        acts[chosen] = n
        chosen += int(since_edge[n] > _ZERO)
    return chosen


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
    """Write one channel of a row as 8 bits: light [W] -> pixels [W, C]."""
    white, half = np.float32(255), np.float32(0.5)
    if len(encoding) > 0:
        steps = np.float32(len(encoding) - 1) / white
        for x in range(len(light)):
            pixels[x, channel] = encoding[np.uint64(min(light[x], white) * steps + half)]
    elif pixels.shape[1] == 1:  # so that it becomes one instruction for many pixels
        flat = pixels.reshape(-1)
        for x in range(len(light)):
            flat[x] = np.uint8(np.int32(min(light[x] + half, white)))
    else:
        for x in range(len(light)):
            pixels[x, channel] = np.uint8(np.int32(min(light[x] + half, white)))


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
def integrate(
    area: Plane, gain: Plane, count: Plane, events: Events, from_us: Times, until_us: Times, reach_us: float
) -> None:
    """Add the integral of the gain to `area`, event by event: `Sweep.integrate`.

    An event changes the gain by the same amount from then on, and by a share of it on the ramp before.

    Args:
        area, gain, count: [H, W], changed; the gain is that of the events up to `from_us`.
        events: those after `from_us`, and as long as ramps may begin before `until_us`.
        from_us, until_us: event time, of one shape.
        reach_us: longest ramp.
    """
    cells, t_us, leads, factors = events
    flat_area, flat_gain, flat_count = area.reshape(-1), gain.reshape(-1), count.reshape(-1)
    reach = np.float32(reach_us)
    for y in range(gain.shape[0]):
        row = y if len(until_us) > 1 else 0
        if until_us.shape[1] > 1:
            for x in range(gain.shape[1]):
                area[y, x] += gain[y, x] * np.float32(until_us[row, x] - from_us[row, x])
        else:
            span_us = np.float32(until_us[row, 0] - from_us[row, 0])
            for x in range(gain.shape[1]):
                area[y, x] += gain[y, x] * span_us
    for k in range(len(cells)):
        cell, lead = np.uint64(cells[k]), min(leads[k], reach)
        place = _place(cell, gain.shape[1], from_us.shape)
        # Until the event: what is left of the span then, and how long there was since its start.
        since, rest = np.float32(t_us[k] - from_us[place]), np.float32(until_us[place] - t_us[k])
        if since <= _ZERO or lead <= -rest:
            continue
        changed = flat_gain[cell] * factors[k]
        flat_area[cell] += (changed - flat_gain[cell]) * _seen(since, rest, lead)
        if rest >= _ZERO:
            flat_gain[cell] = changed
            flat_count[cell] += _ONE if factors[k] != _ONE else _ZERO


@compiled
def anchor(
    written: tuple[Plane, Plane, Plane],
    held: Held,
    swept: Swept,
    span_us: tuple[Times, Times],
    light: Plane,
    numbers: tuple[float, float],
) -> None:
    """Anchor the gain to a frame of a flat exposure: `Gain.anchor`, `DoubleIntegral._set`.

    Args:
        written: light where the gain is 1 [C, H, W], events until the exposure begins and ends [H, W] both.
        held: changed.
        swept: key planes and events.
        span_us: event time, [1, 1] both.
        light: of the frame [C, H, W], levels.
        numbers: what constants have more than light; and how long the exposure is, us.
    """
    (gain, count), (constants, opened, closed) = held[0], written
    open_us, close_us = span_us
    settle(held, swept, open_us)
    held[1][0] = -1
    _copy(opened, count)
    area = constants[0]
    for y in range(len(area)):
        for x in range(area.shape[1]):
            area[y, x] = _ZERO
    begin = np.searchsorted(swept[1][1], int(open_us[0, 0]), side="right")
    end = max(begin, np.searchsorted(swept[1][1], int(close_us[0, 0] + swept[3]), side="right"))
    cells, t_us, leads, factors = swept[1]
    events = cells[begin:end], t_us[begin:end], leads[begin:end], factors[begin:end]
    integrate(area, gain, count, events, open_us, close_us, swept[3])
    _copy(closed, count)
    floor, length_us = np.float32(numbers[0]), np.float32(numbers[1])
    means = np.empty(area.shape[1], np.float32)
    for y in range(len(area)):
        for x in range(len(means)):
            means[x] = area[y, x] / length_us
        for c in range(len(constants)):
            row, levels = constants[c, y], light[c, y]
            for x in range(len(means)):
                row[x] = (levels[x] + floor) / means[x]


@compiled
def _seen(since: np.float32, rest: np.float32, lead: np.float32) -> np.float32:
    """Tell how long a span sees the change of an event, on its ramp by share: us.

    Args:
        since: from the span's start to the event, > 0.
        rest: from the event to the span's end; < 0 where it comes later.
        lead: length of its ramp.
    """
    # The ramp's part within the span is this long and ends so long before the event.
    ends = max(-rest, _ZERO)
    begins = min(lead, since)
    seen = max(rest, _ZERO)
    if begins > ends:
        seen += (begins - ends) * (_ONE - (begins + ends) / (lead + lead))
    return seen


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
