"""Loops that expose key planes, compiled for the CPU; `content.py` says what of torch each stands in for."""

from __future__ import annotations

import numpy as np

from nire.compiled import compiled
from nire.integral.event_loops import Events, Plane, Times

_ZERO, _ONE, _HALF, _SIXTH = (np.float32(value) for value in (0, 1, 0.5, 1 / 6))
# A bin with fewer events than this of a pixel has none: its light moves with time.
_NO_EVENTS = np.float32(1e-6)


@compiled
def pack(packed: Plane, bounds: tuple[Plane, ...]) -> None:
    """Lay what is known of a bin out pixel by pixel, so that an event finds it in one place.

    Args:
        packed: [H, W, 2 + 2 C], written: events until the plane before; one over the events of the bin, 0 where it has
            none; and for each channel the plane before, and by how much the one after is more.
        bounds: constants of the plane before and after [C, H, W], events until both planes [H, W].
    """
    first, second, before, after = bounds
    height, width, _ = packed.shape
    for y in range(height):
        for x in range(width):
            pixel, number = packed[y, x], after[y, x] - before[y, x]
            pixel[0] = before[y, x]
            pixel[1] = _ONE / number if number > _NO_EVENTS else _ZERO
            for c in range(len(first)):
                pixel[2 + 2 * c], pixel[3 + 2 * c] = first[c, y, x], second[c, y, x] - first[c, y, x]


@compiled
def integrate(
    area: Plane,
    work: Plane,
    state: tuple[Plane, Plane],
    events: Events,
    span_us: tuple[Times, ...],
    reach_us: float,
    packed: Plane,
    time_shares: tuple[Plane, ...],
) -> None:
    """Add the integral of light over a span within one bin to `area`, event by event: `KeyPlanes._integrated`.

    Args:
        area: [C, H, W], levels times us; changed.
        work: [H, W, 2 + C], scratch: gain, events since the plane before, and what events change of `area`.
        state: gain and count of the events up to the span's start, without ramps [H, W].
        events: those after the span's start, and as long as ramps may begin before its end.
        span_us: event time, [H or 1, W or 1] both.
        reach_us: longest ramp.
        packed: [H, W, 2 + 2 C], of `pack`.
        time_shares: [H or 1, W or 1], how far time is from the plane before to the one after, at the span's ends.
    """
    gain, count = state
    from_us, until_us = span_us
    cells, t_us, leads, factors = events
    down, across = int(from_us.shape[0] > 1), int(from_us.shape[1] > 1)
    height, width = gain.shape
    lengths, between = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(height):
        opens, closes, before, after = from_us[down * y], until_us[down * y], time_shares[0], time_shares[1]
        for x in range(width):
            lengths[x] = np.float32(closes[across * x] - opens[across * x])
            between[x] = (before[down * y, across * x] + after[down * y, across * x]) * _HALF
        for x in range(width):
            number = count[y, x] - packed[y, x, 0]
            work[y, x, 0], work[y, x, 1] = gain[y, x], number
            lengths[x] *= gain[y, x]
            between[x] = number * packed[y, x, 1] if packed[y, x, 1] > _ZERO else between[x]
        for c in range(len(area)):
            for x in range(width):
                area[c, y, x] += lengths[x] * (packed[y, x, 2 + 2 * c] + between[x] * packed[y, x, 3 + 2 * c])
                work[y, x, 2 + c] = _ZERO
    of_pixels, own_of = packed.reshape(height * width, packed.shape[2]), work.reshape(height * width, work.shape[2])
    open_us, close_us = from_us[0, 0], until_us[0, 0]
    for k in range(len(cells)):
        cell = np.uint64(cells[k])
        if down + across > 0:
            y, x = down * (cells[k] // width), across * (cells[k] % width)
            open_us, close_us = from_us[y, x], until_us[y, x]
        now_us, lead_us = float(t_us[k]), min(float(leads[k]), reach_us)
        begin_us = now_us - lead_us
        if now_us <= open_us or begin_us >= close_us:
            continue
        pixel, own = of_pixels[cell], own_of[cell]
        if not pixel[1] > _ZERO:
            continue
        first_us, last_us = max(begin_us, open_us), min(now_us, close_us)
        length_us, rest_us = np.float32(max(last_us - first_us, 0.0)), np.float32(max(close_us - now_us, 0.0))
        # Of the ramp, at the ends of its part that lies within the span.
        per_us = 1.0 / max(lead_us, 1.0)
        on, off = np.float32((first_us - begin_us) * per_us), np.float32((last_us - begin_us) * per_us)
        gain_now, known, factor = own[0], own[1], factors[k]
        weight = _ONE if factor != _ONE else _ZERO
        change = gain_now * (factor - _ONE)
        gain_on, gain_off = gain_now + on * change, gain_now + off * change
        for c in range(len(area)):
            rise = pixel[3 + 2 * c] * pixel[1]
            light = pixel[2 + 2 * c] + known * rise
            light_on, light_off = light + on * weight * rise, light + off * weight * rise
            # Both go evenly: the mean of their product is less than that of its ends.
            mean = (gain_on * light_on + gain_off * light_off) * _HALF
            mean -= (gain_off - gain_on) * (light_off - light_on) * _SIXTH
            now, then = gain_now * light, (gain_now + change) * (light + weight * rise)
            own[2 + c] += (mean - now) * length_us + (then - now) * rest_us
        if now_us <= close_us:
            own[0] = gain_now + change
            own[1] = known + weight
    for c in range(len(area)):
        for y in range(height):
            for x in range(width):
                area[c, y, x] += work[y, x, 2 + c]
