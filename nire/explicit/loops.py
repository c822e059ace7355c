"""Loops that expose key planes, compiled for the CPU; `content.py` says what of torch each stands in for."""

from __future__ import annotations

import numpy as np

from nire.compiled import compiled
from nire.integral.event_loops import Events, Plane, Times

_ZERO, _ONE = np.float32(0), np.float32(1)
# A bin with fewer events than this of a pixel has none: its light moves with time.
_NO_EVENTS = np.float32(1e-6)


@compiled
def integrate(
    area: Plane,
    state: tuple[Plane, Plane],
    events: Events,
    span_us: tuple[Times, ...],
    reach_us: float,
    bounds: tuple[Plane, ...],
    time_shares: tuple[Plane, ...],
) -> None:
    """Add the integral of light over a span within one bin to `area`, event by event: `KeyPlanes._integrated`.

    Args:
        area: [C, H, W], levels times us; changed.
        state: gain and count of the events up to the span's start, without ramps [H, W]; changed, to those of its end.
        events: those after the span's start, and as long as ramps may begin before its end.
        span_us: event time, [H or 1, W or 1] both.
        reach_us: longest ramp.
        bounds: constants of the plane before and after [C, H, W], events until both planes [H, W].
        time_shares: [H or 1, W or 1], how far time is from the plane before to the one after, at the span's ends.
    """
    gain, count = state
    from_us, until_us = span_us
    first, second, before, after = bounds
    cells, t_us, leads, factors = events
    down, across = int(from_us.shape[0] > 1), int(from_us.shape[1] > 1)
    height, width = gain.shape
    for y in range(height):
        for x in range(width):
            place = (down * y, across * x)
            whole = after[y, x] - before[y, x]
            if whole > _NO_EVENTS:
                share = (count[y, x] - before[y, x]) / whole
            else:
                share = (time_shares[0][place] + time_shares[1][place]) / 2
            amount = gain[y, x] * np.float32(until_us[place] - from_us[place])
            for c in range(len(area)):
                area[c, y, x] += amount * (first[c, y, x] + share * (second[c, y, x] - first[c, y, x]))
    for k in range(len(cells)):
        y, x = cells[k] // width, cells[k] % width
        place = (down * y, across * x)
        open_us, close_us, now_us = from_us[place], until_us[place], float(t_us[k])
        begin_us = now_us - min(float(leads[k]), reach_us)
        if now_us <= open_us or begin_us >= close_us:
            continue
        whole = after[y, x] - before[y, x]
        if not whole > _NO_EVENTS:
            continue
        first_us, last_us = max(begin_us, open_us), min(now_us, close_us)
        length_us, rest_us = np.float32(max(last_us - first_us, 0.0)), np.float32(max(close_us - now_us, 0.0))
        # Of the ramp, at the ends of its part that lies within the span.
        ramp = (np.float32((first_us - begin_us) / max(now_us - begin_us, 1.0)),
                np.float32((last_us - begin_us) / max(now_us - begin_us, 1.0)))  # fmt: skip
        change, weight = factors[k] - _ONE, _ONE if factors[k] != _ONE else _ZERO
        known = count[y, x] - before[y, x]
        for c in range(len(area)):
            rise = (second[c, y, x] - first[c, y, x]) / whole
            now = gain[y, x] * (first[c, y, x] + known * rise)
            then = gain[y, x] * factors[k] * (first[c, y, x] + (known + weight) * rise)
            gain_on, gain_off = gain[y, x] * (_ONE + ramp[0] * change), gain[y, x] * (_ONE + ramp[1] * change)
            light_on = first[c, y, x] + (known + ramp[0] * weight) * rise
            light_off = first[c, y, x] + (known + ramp[1] * weight) * rise
            # Both go evenly: the mean of their product is less than that of its ends.
            mean = (gain_on * light_on + gain_off * light_off) / 2 - (gain_off - gain_on) * (light_off - light_on) / 6
            area[c, y, x] += (mean - now) * length_us + (then - now) * rest_us
        if now_us <= close_us:
            gain[y, x] *= factors[k]
            count[y, x] += weight
