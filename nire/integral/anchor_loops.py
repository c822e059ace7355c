"""Loops that integrate the gain over a time, and anchor it to frames by that, compiled for the CPU.

Each stands in for operations of torch, as those of `loops.py` do; it says which. Times are event time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nire.compiled import compiled
from nire.integral.event_loops import Events, Plane, Times

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
