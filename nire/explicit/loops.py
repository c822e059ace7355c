"""Loops that expose key planes, compiled for the CPU; `content.py` says what of torch each stands in for."""

from __future__ import annotations

import numpy as np

from nire.compiled import compiled
from nire.integral.event_loops import Cells, Events, Plane, Times
from nire.integral.instant_loops import EVEN_STEPS, MOST_EVEN, Evenly

_ZERO, _ONE, _HALF, _SIXTH = (np.float32(value) for value in (0, 1, 0.5, 1 / 6))
# A bin with fewer events than this of a pixel has none: its light moves with time.
_NO_EVENTS = np.float32(1e-6)
# Events that are timed at once: what is told of them stays in the nearest cache.
_CHUNK = 512
# Places in what is laid out pixel by pixel are unsigned: signed ones would be asked whether they count from the end.
_FIRST, _SECOND = np.uint64(1), np.uint64(2)


@compiled
def compare_changes(sums: Plane, planes: Plane, gains: Plane, floor: float) -> None:
    """Compare what planes and events say of changes from plane to plane: the sums of `belief.belief_in`.

    Args:
        sums: [2, H, W], written: of the product of both changes, and of the square of that by events.
        planes: [K + 1, H, W], light.
        gains: [K + 1, H, W].
        floor: what planes have less than constants.
    """
    dark, two = np.float32(2 * floor), np.float32(2)
    for y in range(planes.shape[1]):
        together, own = sums[0, y], sums[1, y]
        for x in range(planes.shape[2]):
            together[x] = own[x] = _ZERO
        for k in range(len(planes) - 1):
            before, after, gain, next_gain = planes[k, y], planes[k + 1, y], gains[k, y], gains[k + 1, y]
            for x in range(planes.shape[2]):
                seen = two * (after[x] - before[x]) / (after[x] + before[x] + dark)
                told = two * (next_gain[x] - gain[x]) / (next_gain[x] + gain[x])
                together[x] += seen * told
                own[x] += told * told


@compiled
def part(constants: Plane, even: Evenly, planes: Plane, gains: Plane, belief: Plane, floor: float) -> None:
    """Part the light of planes into what follows events and what goes evenly: `KeyPlanes`.

    Args:
        constants: [K + 1, C, H, W], written: the first, where the gain is 1.
        even: written: the second.
        planes: [K + 1, C, H, W], light.
        gains: [K + 1, H, W].
        belief: [H, W], share of the first.
        floor: what is added to light.
    """
    dark, steps, step = np.float32(floor), np.float32(EVEN_STEPS), np.float32(1 / EVEN_STEPS)
    most = np.float32(MOST_EVEN)
    for k in range(planes.shape[0]):
        for c in range(planes.shape[1]):
            for y in range(planes.shape[2]):
                light, follows, rest = planes[k, c, y], constants[k, c, y], even[k, c, y]
                for x in range(planes.shape[3]):
                    level = light[x] + dark
                    whole = min(np.rint(level * (_ONE - belief[y, x]) * steps), most)
                    rest[x] = np.int16(whole)
                    follows[x] = (level - whole * step) / gains[k, y, x]


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
    bounds: tuple[Plane, ...],
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
        bounds: as of `pack`.
        packed: [H, W, 2 + 2 C], of `pack`.
        time_shares: [H or 1, W or 1], how far time is from the plane before to the one after, at the span's ends.
    """
    gain, count = state
    from_us, until_us = span_us
    down, across = int(from_us.shape[0] > 1), int(from_us.shape[1] > 1)
    height, width = gain.shape
    rows = np.empty((3, width), np.float32)
    lengths, between, numbers = rows[0], rows[1], rows[2]
    planes, (counted, until) = (bounds[0], bounds[1]), (bounds[2], bounds[3])
    many, len_own, of_pixel, of_own = len(area), work.shape[2], np.uint64(packed.shape[2]), np.uint64(work.shape[2])
    pixels, own = packed.reshape(-1), work.reshape(-1)
    for y in range(height):
        opens, closes, before, after = from_us[down * y], until_us[down * y], time_shares[0], time_shares[1]
        for x in range(width):
            lengths[x] = np.float32(closes[across * x] - opens[across * x])
            between[x] = (before[down * y, across * x] + after[down * y, across * x]) * _HALF
        _share_row(lengths, between, numbers, gain[y], count[y], counted[y], until[y])
        for c in range(many):
            _add_row(area[c, y], lengths, between, planes[0][c, y], planes[1][c, y])
        _begin_row(own[y * width * len_own : (y + 1) * width * len_own], gain[y], numbers, of_own)
    _go_through(own, pixels, (of_own, of_pixel), events, span_us, reach_us, width)
    for c in range(many):
        for y in range(height):
            _end_row(area[c, y], own[y * width * len_own : (y + 1) * width * len_own], of_own, _SECOND + np.uint64(c))


@compiled
def _go_through(
    own: Plane,
    pixels: Plane,
    sizes: tuple[np.uint64, np.uint64],
    events: Events,
    span_us: tuple[Times, ...],
    reach_us: float,
    width: int,
) -> None:
    """Let events change the gain of their pixels, and sum up what that does to the integral.

    Args:
        own: `work`, flat; changed.
        pixels: `packed`, flat.
        sizes: what each of the two has of a pixel.
        events, span_us, reach_us: as of `integrate`.
        width: of the image.
    """
    cells, factors = events[0], events[3]
    of_own, of_pixel = sizes
    many = of_own - _SECOND
    times, acts = np.empty((4, _CHUNK), np.float32), np.empty(_CHUNK + 1, np.int32)
    for first in range(0, len(events[0]), _CHUNK):
        which = first, min(first + _CHUNK, len(events[0]))
        for n in range(np.uint64(_time_events(times, acts, events, which, span_us, reach_us, width))):
            event = np.uint64(acts[n])
            k = np.uint64(first) + event
            length_us, rest_us, on, off = times[0, event], times[1, event], times[2, event], times[3, event]
            factor = factors[k]
            pixel, mine = np.uint64(cells[k]) * of_pixel, np.uint64(cells[k]) * of_own
            gain_now, known, per_event = own[mine], own[mine + _FIRST], pixels[pixel + _FIRST]
            weight = _ONE if factor != _ONE else _ZERO
            change = gain_now * (factor - _ONE)
            gain_on, gain_off = gain_now + on * change, gain_now + off * change
            if not per_event > _ZERO:
                continue
            for c in range(many):
                rise = pixels[pixel + _SECOND * (c + _FIRST) + _FIRST] * per_event
                light = pixels[pixel + _SECOND * (c + _FIRST)] + known * rise
                light_on, light_off = light + on * weight * rise, light + off * weight * rise
                # Both go evenly: the mean of their product is less than that of its ends.
                mean = (gain_on * light_on + gain_off * light_off) * _HALF
                mean -= (gain_off - gain_on) * (light_off - light_on) * _SIXTH
                now, then = gain_now * light, (gain_now + change) * (light + weight * rise)
                own[mine + _SECOND + c] += (mean - now) * length_us + (then - now) * max(rest_us, _ZERO)
            if rest_us >= _ZERO:
                own[mine] = gain_now + change
                own[mine + _FIRST] = known + weight


@compiled
def _share_row(
    lengths: Plane, between: Plane, numbers: Plane, gain: Plane, count: Plane, before: Plane, after: Plane
) -> None:
    """Tell of a row how long the span is, times the gain, how far light is between both planes, and its events.

    Args:
        lengths, between, numbers: [W], changed: of the first two the times' are given.
        gain, count: at the span's start [W].
        before, after: events until both planes [W].
    """
    for x in range(len(lengths)):
        number, whole = count[x] - before[x], after[x] - before[x]
        share = number * (_ONE / max(whole, _NO_EVENTS))
        between[x] = share if whole > _NO_EVENTS else between[x]
        lengths[x] *= gain[x]
        numbers[x] = number


@compiled
def _add_row(area: Plane, lengths: Plane, between: Plane, first: Plane, second: Plane) -> None:
    """Add what a row's light would be without further events: [W] all."""
    for x in range(len(area)):
        area[x] += lengths[x] * (first[x] + between[x] * (second[x] - first[x]))


@compiled
def _begin_row(own: Plane, gain: Plane, numbers: Plane, of_own: np.uint64) -> None:
    """Lay a row of `work` out: [W (2 + C)]."""
    for k in range(len(own)):
        own[k] = _ZERO
    mine = np.uint64(0)
    for x in range(len(gain)):
        own[mine], own[mine + _FIRST] = gain[x], numbers[x]
        mine += of_own


@compiled
def _end_row(area: Plane, own: Plane, of_own: np.uint64, place: np.uint64) -> None:
    """Add what events change of a row, which stands at a place of each pixel's `work`."""
    for x in range(len(area)):
        area[x] += own[place]
        place += of_own


@compiled
def _time_events(
    times: Plane,
    acts: Cells,
    events: Events,
    which: tuple[int, int],
    span_us: tuple[Times, ...],
    reach_us: float,
    width: int,
) -> int:
    """Tell of some events when they act on a span, and which of them do: many at a time, without branches.

    Args:
        times: [4, n], written: how long the ramp lies within the span, us; what is left of the span at the event, us,
            < 0 where it comes after the end; and how far the ramp has come at the ends of its part in the span.
        acts: [n + 1], written: which of the events act, as many as are returned.
        events, span_us, reach_us: as of `integrate`.
        which: the first event, and the one after the last.
        width: of the image.

    Returns:
        How many act.
    """
    from_us, until_us = span_us
    down, across = int(from_us.shape[0] > 1), int(from_us.shape[1] > 1)
    cells, t_us = events[0][which[0] : which[1]], events[1][which[0] : which[1]]
    leads, reach = events[2][which[0] : which[1]], np.float32(reach_us)
    sinces, rests, ons, offs = times[0], times[1], times[2], times[3]
    if down + across == 0:
        open_us, close_us = from_us[0, 0], until_us[0, 0]
        for n in range(len(t_us)):
            sinces[n], rests[n] = np.float32(t_us[n] - open_us), np.float32(close_us - t_us[n])
    else:
        for n in range(len(t_us)):
            y, x = down * (cells[n] // width), across * (cells[n] % width)
            sinces[n], rests[n] = np.float32(t_us[n] - from_us[y, x]), np.float32(until_us[y, x] - t_us[n])
    for n in range(len(t_us)):
        since, rest, lead = sinces[n], rests[n], min(leads[n], reach)
        # From the ramp's start: its part in the span begins and ends so much later.
        begins, ends = max(lead - since, _ZERO), lead + min(rest, _ZERO)
        per_us = _ONE / max(lead, _ONE)
        ons[n] = begins * per_us if (since > _ZERO) & (lead > -rest) else -_ONE
        sinces[n], offs[n] = max(ends - begins, _ZERO), ends * per_us
    many = 0
    for n in range(len(t_us)):
        acts[many] = n
        many += int(ons[n] >= _ZERO)
    return many
