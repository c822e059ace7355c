"""Loops that integrate the gain over a time, and anchor it to frames by that, compiled for the CPU.

Each stands in for operations of torch, as those of `loops.py` do; it says which. Times are event time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nire.compiled import compiled
from nire.integral.event_loops import Cells, Events, Plane, Times

# Events that are timed at once: what is told of them stays in the nearest cache.
_CHUNK = 512
_ONE, _ZERO = np.float32(1), np.float32(0)


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
    cells, factors = events[0], events[3]
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
    times, acts = np.empty((2, _CHUNK), np.float32), np.empty(_CHUNK + 1, np.int32)
    for first in range(0, len(cells), _CHUNK):
        which = first, min(first + _CHUNK, len(cells))
        for n in range(
            np.uint64(_time_events(times, acts, events, which, (from_us, until_us), reach_us, gain.shape[1]))
        ):
            event = np.uint64(acts[n])
            k = np.uint64(first) + event
            cell, factor = np.uint64(cells[k]), factors[k]
            before = flat_gain[cell]
            changed = before * factor
            flat_area[cell] += (changed - before) * times[1, event]
            if times[0, event] >= _ZERO:
                flat_gain[cell] = changed
                flat_count[cell] += _ONE if factor != _ONE else _ZERO


@compiled
def _time_events(
    times: Plane,
    acts: Cells,
    events: Events,
    which: tuple[int, int],
    span_us: tuple[Times, Times],
    reach_us: float,
    width: int,
) -> int:
    """Tell of some events how much of a span sees them, and of how many any: many at a time, without branches.

    Args:
        times: [2, n], written: what is left of the span at the event, us, < 0 where it comes after the end; and how
            long the span sees its change, us, or -1 where it does not.
        acts: [n + 1], written: which of the events are seen, as many as are returned.
        events, span_us, reach_us: as of `integrate`.
        which: the first event, and the one after the last.
        width: of the image.

    Returns:
        How many are seen.
    """
    from_us, until_us = span_us
    cells, t_us = events[0][which[0] : which[1]], events[1][which[0] : which[1]]
    leads, reach = events[2][which[0] : which[1]], np.float32(reach_us)
    rests, seen = times[0], times[1]
    if from_us.size == 1:
        open_us, close_us = from_us[0, 0], until_us[0, 0]
        for n in range(len(t_us)):
            seen[n], rests[n] = np.float32(t_us[n] - open_us), np.float32(close_us - t_us[n])
    else:
        for n in range(len(t_us)):
            place = _place(np.uint64(cells[n]), width, from_us.shape)
            seen[n], rests[n] = np.float32(t_us[n] - from_us[place]), np.float32(until_us[place] - t_us[n])
    for n in range(len(t_us)):
        since, rest, lead = seen[n], rests[n], min(leads[n], reach)
        seen[n] = _seen(since, rest, lead) if (since > _ZERO) & (lead > -rest) else -_ONE
    many = 0
    for n in range(len(t_us)):
        acts[many] = n
        many += int(seen[n] >= _ZERO)
    return many


@compiled
def anchor(
    constants: Plane,
    state: tuple[Plane, Plane],
    events: Events,
    span_us: tuple[Times, Times],
    reach_us: float,
    light: Plane,
    numbers: tuple[float, float],
) -> None:
    """Anchor the gain to a frame of a flat exposure: `Gain.anchor`, `DoubleIntegral._set`.

    Args:
        constants: light where the gain is 1 [C, H, W], written.
        state: gain and count of the events until the exposure begins [H, W]; changed, to those until it ends.
        events, reach_us: as of `integrate`.
        span_us: event time, [1, 1] both.
        light: of the frame [C, H, W], levels.
        numbers: what constants have more than light; and how long the exposure is, us.
    """
    area = constants[0]
    for y in range(len(area)):
        for x in range(area.shape[1]):
            area[y, x] = _ZERO
    integrate(area, state[0], state[1], events, span_us[0], span_us[1], reach_us)
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
    ramped = (begins - ends) * (_ONE - (begins + ends) / (lead + lead))
    return max(rest, _ZERO) + (ramped if begins > ends else _ZERO)


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
