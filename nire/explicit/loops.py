"""Loops that expose key planes, compiled for the CPU; `content.py` says what of torch each stands in for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nire.compiled import compiled
from nire.integral.event_loops import Events, Plane, Times

_ZERO, _ONE = np.float32(0), np.float32(1)
# A bin with fewer events than this of a pixel has none: its light moves with time.
_NO_EVENTS = np.float32(1e-6)


@compiled
def expose_instant(
    light: Plane,
    state: tuple[Plane, Plane],
    key: NDArray[np.int64],
    time_share: Plane,
    constants: Plane,
    counts: Plane,
    dark: float,
) -> None:
    """Expose an instant between key planes: `KeyPlanes._expose_instant`.

    Args:
        light: [C, H, W], written: levels, >= 0.
        state: gain and count of events [H, W], with ramps, at the instant.
        key: [H or 1, W or 1], the plane before the instant.
        time_share: as `key`, how far time is from that plane to the next.
        constants: [K + 1, C, H, W], light of the planes over the gain at their times.
        counts: [K + 1, H, W], events until their times, with ramps.
        dark: what constants have more than light.
    """
    gain, count = state
    down, across = int(key.shape[0] > 1), int(key.shape[1] > 1)
    floor = np.float32(dark)
    height, width = gain.shape
    shares = np.empty(width, np.float32)
    for y in range(height):
        if not across:
            k = key[down * y, 0]
            _share_row(shares, count[y], counts[k, y], counts[k + 1, y], time_share[down * y, 0])
            for c in range(len(light)):
                _expose_row(light[c, y], shares, gain[y], constants[k, c, y], constants[k + 1, c, y], floor)
            continue
        for x in range(width):
            k, pixel = key[down * y, x], slice(x, x + 1)
            _share_row(
                shares[pixel], count[y, pixel], counts[k, y, pixel], counts[k + 1, y, pixel], time_share[down * y, x]
            )
            for c in range(len(light)):
                first, second = constants[k, c, y, pixel], constants[k + 1, c, y, pixel]
                _expose_row(light[c, y, pixel], shares[pixel], gain[y, pixel], first, second, floor)


@compiled
def _share_row(shares: Plane, count: Plane, before: Plane, after: Plane, time_share: float) -> None:
    """Tell how far each pixel of a row is on its way to the next plane: [W] all."""
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
            on = gain[y, x] * (_ONE + ramp[0] * change) * (first[c, y, x] + (known + ramp[0] * weight) * rise)
            off = gain[y, x] * (_ONE + ramp[1] * change) * (first[c, y, x] + (known + ramp[1] * weight) * rise)
            then = gain[y, x] * factors[k] * (first[c, y, x] + (known + weight) * rise)
            area[c, y, x] += ((on + off) / 2 - now) * length_us + (then - now) * rest_us
        if now_us <= close_us:
            gain[y, x] *= factors[k]
            count[y, x] += weight
