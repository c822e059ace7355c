"""Loops over a window's events, compiled for the CPU: what they do to the gain and the count of their pixels.

Each stands in for operations of torch in `sweep.py`, as those of `loops.py` do. Places of events are unsigned inside:
for signed ones each access would ask whether they count from the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nire.compiled import compiled

Plane = NDArray[np.float32]
"""[H, W]; more dimensions where it is said."""
Cells = NDArray[np.int32]
"""Pixels of events, y W + x, in the order of time."""
Times = NDArray[np.float64]
"""Event time, [H or 1, W or 1]."""
Events = tuple[Cells, NDArray[np.int64], Plane, Plane]
"""Pixels, times, longest ramps and factors of events, [N] each. An event that does nothing has the factor 1."""

PIXEL = np.dtype([("t_us", np.int64), ("last", np.int32), ("total", np.int32)])
"""What is known of a pixel's events: time and place of the last one, and how many there were; all 0 before any."""
_ONE, _ZERO, _ENDLESS = np.float32(1), np.float32(0), np.float32(np.inf)
_NEVER = np.iinfo(np.int64).min


@compiled
def take(
    written: tuple[Cells, Plane, Plane],
    given: tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]],
    pixels: NDArray[Any],
    shape: tuple[int, int],
    holes_us: NDArray[np.int64],
    factor_of: tuple[np.float32, np.float32],
) -> int:
    """Find the pixels of new events, what they do to the gain, and how long the ramp towards each can be: `Sweep`.

    A ramp does not begin before the event that came before it in its pixel, nor before the end of missing events, and
    not earlier than half as long before its event as the next one of the pixel comes after it: what goes on fast did
    not begin long ago.

    Args:
        written: pixels and factors of the new events [n]; and the longest ramps of all events [N], written for the new
            ones, which are the last, and changed for the last one of each pixel before.
        given: times of all events [N]; columns, rows and polarities of the new ones [n].
        pixels: `PIXEL` [P], changed.
        shape: H, W.
        holes_us: ends of the spans whose events are missing, ascending.
        factor_of: of events that are darker and that are brighter.

    Returns:
        The most events that a pixel with new ones has.

    Raises:
        ValueError: an event lies outside the sensor; nothing was written.
    """
    cells, factors, leads = written
    t_us, columns, rows, polarities = given
    (height, width), (darker, brighter) = shape, factor_of
    outside = False
    for k in range(len(cells)):
        outside |= (columns[k] >= width) | (rows[k] >= height)
    if outside:  # the one look at this: no loop after this one asks again
        raise ValueError("an event lies outside the sensor")
    for k in range(len(cells)):
        cells[k] = np.uint32(rows[k]) * np.uint32(width) + np.uint32(columns[k])
        factors[k] = brighter if polarities[k] else darker
    most, begin, hole_us = 0, len(t_us) - len(cells), _NEVER
    for until_us in holes_us:
        end = max(begin, np.searchsorted(t_us, until_us))
        most = max(most, _link(leads, t_us, cells, pixels, (begin, end), hole_us))
        begin, hole_us = end, until_us
    return max(most, _link(leads, t_us, cells, pixels, (begin, len(t_us)), hole_us))


@compiled
def _link(
    leads: Plane,
    t_us: NDArray[np.int64],
    cells: Cells,
    pixels: NDArray[Any],
    which: tuple[int, int],
    hole_us: int,
) -> int:
    """Write the longest ramps of some new events, from one hole to the next.

    Args:
        leads: [N], written for these events, and changed for the last one of each pixel before.
        t_us: [N].
        cells: of the new events [n].
        pixels: `PIXEL` [P], changed.
        which: the first event, and the one after the last, of all.
        hole_us: end of the missing events before them, or `_NEVER`.

    Returns:
        The most events that one of their pixels has.
    """
    most, known, no_hole = np.int32(0), np.uint64(len(t_us) - len(cells)), hole_us == _NEVER
    for k in range(np.uint64(which[0]), np.uint64(which[1])):
        now_us, pixel = t_us[k], pixels[np.uint64(np.uint32(cells[k - known]))]
        last, gap_us, total = np.uint64(np.uint32(pixel.last)), now_us - pixel.t_us, pixel.total
        # Whether a pixel has had an event before, no processor can foresee: none of this is a branch.
        is_linked = (total > 0) & (pixel.t_us >= hole_us)
        leads[last] = min(leads[last], np.float32(gap_us >> 1) if is_linked else _ENDLESS)
        since_hole = _ENDLESS if no_hole else np.float32(now_us - hole_us)
        leads[k] = min(np.float32(gap_us) if total > 0 else _ENDLESS, since_hole)
        pixel.t_us, pixel.last, pixel.total = now_us, np.int32(k), total + np.int32(1)
        most = max(most, total + np.int32(1))
    return int(most)


@compiled
def ignore(
    factors: Plane,
    cells: Cells,
    taken: int,
    pixels: NDArray[Any],
    ignored: NDArray[np.bool_],
    exponents: tuple[float, float],
    most: float,
) -> bool:
    """Let the events of pixels that have gone mad, or that are ignored already, do nothing.

    A pixel is mad whose events, those from one moment to another, would multiply its light by more than any light
    does. One that flickers has many events too, but they undo each other.

    Args:
        factors, cells: of all events [N]; factors of the new ones are changed.
        taken: how many are not new.
        pixels: `PIXEL` [P], with all these events.
        ignored: [P]; pixels that turn mad are added.
        exponents: logarithms of the factors, of events that are darker and that are brighter.
        most: logarithm of what a pixel that is not mad is multiplied by at most.

    Returns:
        True where a pixel has turned mad.
    """
    darker, brighter = exponents
    # Fewer events cannot carry a pixel so far, whatever they are.
    enough, is_doubtful, turned = most / max(brighter, -darker), False, False
    for k in range(len(pixels)):
        is_doubtful |= (pixels[k].total > enough) & (not ignored[k])
    if is_doubtful:
        # Sum of the logarithms so far, and how low and how high it came.
        sums = np.zeros((len(pixels), 3))
        for k in range(len(cells)):
            cell = np.uint64(cells[k])
            if ignored[cell] or pixels[cell].total <= enough:
                continue
            now = sums[cell, 0] + (brighter if factors[k] > _ONE else darker)
            low, high = min(sums[cell, 1], now), max(sums[cell, 2], now)
            sums[cell] = now, low, high
            if high - low > most:
                ignored[cell] = True
                turned = True
    for k in range(taken, len(cells)):
        if ignored[np.uint64(cells[k])]:
            factors[k] = _ONE
    return turned


@compiled
def sweep(
    keys: tuple[Plane, Plane],
    known: int,
    now: Plane,
    events: Events,
    edges: NDArray[np.int64],
    kept: NDArray[np.bool_],
    most: float,
) -> None:
    """Let events change gain and count of their pixels, step by step, and keep some of the planes: `Sweep._run`.

    Args:
        keys: gains and counts [n, H, W], written from number `known` on.
        known: how many there are.
        now: gain and count of each pixel [H, W, 2], changed; at the end of each step the gain is within 1 / most and
            most.
        events: all of the window.
        edges: [S + 1]; events edges[k] to edges[k + 1] belong to step k.
        kept: [S], whether a step leaves a key plane.
        most: of a gain.
    """
    cells, _, _, factors = events
    state = now.reshape(-1)
    high, low = np.float32(most), np.float32(1 / most)
    for step in range(len(kept)):
        least, greatest = _ONE, _ONE
        for k in range(np.uint64(edges[step]), np.uint64(edges[step + 1])):
            cell, factor = np.uint64(2) * np.uint64(cells[k]), factors[k]
            changed = state[cell] * factor
            state[cell] = changed
            state[cell + np.uint64(1)] += _ONE if factor != _ONE else _ZERO
            least, greatest = min(least, changed), max(greatest, changed)
        if least < low or greatest > high:
            for k in range(np.uint64(edges[step]), np.uint64(edges[step + 1])):
                cell = np.uint64(2) * np.uint64(cells[k])
                state[cell] = min(max(state[cell], low), high)
        if kept[step]:
            gain, count = keys[0][known].reshape(-1), keys[1][known].reshape(-1)
            for pixel in range(np.uint64(len(gain))):
                gain[pixel], count[pixel] = state[2 * pixel], state[2 * pixel + 1]
            known += 1
