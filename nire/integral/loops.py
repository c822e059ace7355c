"""Loops over a window's events and pixels, compiled for the CPU: one pass where torch makes one for each operation.

Each says which function of torch it stands in for. Those are the definition: they run on GPUs, in training and inside
graphs, and tests compare the two. Arrays are float32 and contiguous unless it is said. Places of events are unsigned
inside: for signed ones each access would ask whether they count from the end.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.compiled import compiled

Plane = NDArray[np.float32]
"""[H, W], or [P] all of its pixels; more dimensions where it is said."""
Cells = NDArray[np.int64]
"""Pixels of events, y W + x, in the order of time."""
Times = NDArray[np.float64]
"""Event time, [H or 1, W or 1]."""
Events = tuple[Cells, NDArray[np.int64], NDArray[np.int64], Plane, Plane]
"""Pixels, times, earliest begins of ramps, factors and weights of events."""

NEVER_US = -(2**62)
"""Before all times."""
_ONE, _ZERO = np.float32(1), np.float32(0)


def serve(*tensors: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Tell whether loops can work on tensors: of a CPU, of this type, no gradient wanted, and no graph being traced."""
    if torch.compiler.is_compiling():
        return False
    return all(t.device.type == "cpu" and t.dtype == dtype and not t.requires_grad for t in tensors)


@compiled
def admit(
    totals: NDArray[np.int64], ignored: NDArray[np.bool_], cells: Cells, factors: Plane, weights: Plane, most: float
) -> bool:
    """Count events in the totals of their pixels; those of pixels with too many, or that are ignored, will do nothing.

    Args:
        totals: [P], events so far.
        ignored: [P]; pixels that turn mad are added.
        cells: of the events [N].
        factors, weights: of the events [N]; 1 and 0 for those that are to do nothing.
        most: events of a pixel that is not mad.

    Returns:
        True where a pixel has turned mad.

    Raises:
        ValueError: an event lies outside the sensor.
    """
    turned = False
    for k in range(len(cells)):
        cell = np.uint64(cells[k])
        if cell >= len(totals):  # the one look at this: no loop after this one asks again
            raise ValueError("an event lies outside the sensor")
        totals[cell] += 1
    for k in range(len(cells)):
        cell = np.uint64(cells[k])
        if totals[cell] > most and not ignored[cell]:
            ignored[cell] = True
            turned = True
        if ignored[cell]:
            factors[k], weights[k] = _ONE, _ZERO
    return turned


@compiled
def link(
    begins: NDArray[np.int64],
    latest: Cells,
    columns: tuple[Cells, NDArray[np.int64]],
    first: int,
    holes_us: NDArray[np.int64],
) -> None:
    """Find when the ramp towards each event can begin at the earliest: `Sweep`.

    Not before the event that came before it in its pixel, nor before the end of missing events, and not earlier than
    half as long before it as the next event of the pixel comes after it: what goes on fast did not begin long ago.

    Args:
        begins: of all events [N]; written for those from `first` on, and changed for the last one of each pixel.
        latest: [P], number of the last event of each pixel, -1 for none; changed.
        columns: pixels and times of all events [N].
        first: of the new ones.
        holes_us: ends of the spans whose events are missing, ascending.
    """
    cells, t_us = columns
    hole = np.searchsorted(holes_us, t_us[first], side="right") if first < len(cells) else 0
    for k in range(first, len(cells)):
        while hole < len(holes_us) and holes_us[hole] <= t_us[k]:
            hole += 1
        cell = np.uint64(cells[k])
        last = latest[cell]
        begin_us = holes_us[hole - 1] if hole > 0 else NEVER_US
        if last >= 0:
            if t_us[last] >= begin_us:
                begins[last] = max(begins[last], t_us[last] - (t_us[k] - t_us[last]) // 2)
            begin_us = max(begin_us, t_us[last])
        begins[k] = begin_us
        latest[cell] = k


@compiled
def advance(gain: Plane, count: Plane, events: Events, from_us: Times, until_us: Times) -> None:
    """Let events change gain and count of their pixels: `Sweep.advance`.

    Args:
        gain, count: [H, W], changed.
        events: some; those after `from_us` do, up to and at `until_us`.
        from_us, until_us: of one shape.
    """
    cells, t_us, _, factors, weights = events
    flat_gain, flat_count = gain.reshape(-1), count.reshape(-1)
    for k in range(len(cells)):
        cell = np.uint64(cells[k])
        place = _place(cell, gain.shape[1], from_us.shape)
        if from_us[place] < t_us[k] <= until_us[place]:
            flat_gain[cell] *= factors[k]
            flat_count[cell] += weights[k]


@compiled
def step(gain: Plane, count: Plane, events: Events, most: float) -> None:
    """Let events change gain and count of their pixels, then keep their gain within 1 / most and most: `Sweep._step`.

    Args:
        gain, count: [H, W], changed.
        events: all of them do.
        most: of a gain.
    """
    cells, _, _, factors, weights = events
    flat_gain, flat_count = gain.reshape(-1), count.reshape(-1)
    high, low = np.float32(most), np.float32(1 / most)
    for k in range(len(cells)):
        cell = np.uint64(cells[k])
        flat_gain[cell] *= factors[k]
        flat_count[cell] += weights[k]
    for k in range(len(cells)):
        cell = np.uint64(cells[k])
        flat_gain[cell] = min(max(flat_gain[cell], low), high)


@compiled
def ramp(gain: Plane, count: Plane, events: Events, at_us: Times, reach_us: float) -> None:
    """Put pixels that are on their way to their next event on their ramps: `Sweep.ramp`.

    Args:
        gain: [H, W], of the events up to `at_us`; changed.
        count: [H, W], likewise; or empty.
        events: all that come within `reach_us` after it, and maybe more.
        at_us: event time.
        reach_us: longest ramp.
    """
    cells, t_us, begins, factors, weights = events
    flat_gain, flat_count = gain.reshape(-1), count.reshape(-1)
    counts, is_uniform = len(flat_count) > 0, at_us.size == 1
    now_us = at_us[0, 0]
    for k in range(len(cells)):
        cell = np.uint64(cells[k])
        if not is_uniform:
            now_us = at_us[_place(cell, gain.shape[1], at_us.shape)]
        if begins[k] >= now_us:
            continue
        begin_us = max(float(begins[k]), t_us[k] - reach_us)
        if begin_us < now_us < t_us[k]:
            share = np.float32((now_us - begin_us) / (t_us[k] - begin_us))
            flat_gain[cell] *= _ONE + (factors[k] - _ONE) * share
            if counts:
                flat_count[cell] += share * weights[k]


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
    cells, t_us, begins, factors, weights = events
    flat_area, flat_gain, flat_count = area.reshape(-1), gain.reshape(-1), count.reshape(-1)
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
        cell, now_us = np.uint64(cells[k]), float(t_us[k])
        place = _place(cell, gain.shape[1], from_us.shape)
        open_us, close_us = from_us[place], until_us[place]
        begin_us = max(float(begins[k]), now_us - reach_us)
        if now_us <= open_us or begin_us >= close_us:
            continue
        changed = flat_gain[cell] * factors[k]
        first_us, last_us = max(begin_us, open_us), min(now_us, close_us)
        weight_us = 0.0
        if first_us < last_us:
            # The mean of the ramp's share over the part that lies within the span, times how long that is.
            weight_us = (last_us - first_us) * ((first_us + last_us) / 2 - begin_us) / (now_us - begin_us)
        if now_us <= close_us:
            weight_us += close_us - now_us
        flat_area[cell] += (changed - flat_gain[cell]) * np.float32(weight_us)
        if now_us <= close_us:
            flat_gain[cell] = changed
            flat_count[cell] += weights[k]


@compiled
def _place(cell: np.uint64, width: int, shape: tuple[int, int]) -> tuple[np.uint64, np.uint64]:
    """Find a pixel's entry among those of an image, of its rows or of its pixels."""
    if shape[0] == 1 and shape[1] == 1:
        return np.uint64(0), np.uint64(0)
    row = cell // np.uint64(width)
    return row, np.uint64(0) if shape[1] == 1 else cell - row * np.uint64(width)


@compiled
def expose_at(light: Plane, constant: Plane, gain: Plane, dark: float) -> None:
    """Expose an instant from one frame, linear light without its dark current: max(K G - dark, 0).

    Args:
        light, constant: [C, H, W].
        gain: [H, W].
        dark: what the constant has more than light.
    """
    floor = np.float32(dark)
    for c in range(len(light)):
        for y in range(gain.shape[0]):
            for x in range(gain.shape[1]):
                light[c, y, x] = max(constant[c, y, x] * gain[y, x] - floor, _ZERO)


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
def blend_at(
    light: Plane,
    state: tuple[Plane, Plane],
    constants: tuple[Plane, Plane],
    ends: tuple[Plane, Plane],
    ramp: Plane,
    noise: float,
    dark: float,
) -> None:
    """Expose an instant from two frames, linear light without its dark current: `DoubleIntegral._expose_instant`.

    Args:
        light: [C, H, W], written.
        state: gain and count of events at the instant, [H, W].
        constants: of both frames, [C, H, W].
        ends: events until the first frame's exposure began, and until the second's ended, [H, W].
        ramp: [H or 1, W or 1], share of time that is the second frame's, 0 to 1.
        noise: in events, > 0.
        dark: what constants have more than light.
    """
    gain, count = state
    least, floor = np.float32(noise), np.float32(dark)
    height, width = gain.shape
    time_share, share = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(height):
        if y == 0 or len(ramp) > 1:
            time_share[:] = ramp[y]
        now, opened, closed = count[y], ends[0][y], ends[1][y]
        for x in range(width):
            second = time_share[x] * (max(now[x] - opened[x], _ZERO) + least)
            first = (_ONE - time_share[x]) * (max(closed[x] - now[x], _ZERO) + least)
            share[x] = second / (first + second)
        for c in range(len(light)):
            row, factor, first, second = light[c, y], gain[y], constants[0][c, y], constants[1][c, y]
            for x in range(width):
                row[x] = max((first[x] + share[x] * (second[x] - first[x])) * factor[x] - floor, _ZERO)


@compiled
def to_levels(image: NDArray[np.uint8], light: Plane) -> None:
    """Round linear light to 8 bits: [C, H, W] levels -> [H, W, C], `IntegralReconstructor._encode_into`.

    Args:
        image: written.
        light: >= 0.
    """
    white, half = np.float32(255), np.float32(0.5)
    for y in range(image.shape[0]):
        for c in range(image.shape[2]):
            row, pixels = light[c, y], image[y, :, c]
            for x in range(len(row)):
                pixels[x] = np.uint8(min(row[x] + half, white))


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
