"""Loops that lay the events of an exposure out for those that sum it up, compiled for the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nire.compiled import compiled
from nire.integral.event_loops import Plane, Times
from nire.integral.instant_loops import Swept

Grid = tuple[int, int, NDArray[np.int64]]
"""Event time of an edge of bins, us from one to the next, and after how many of them exposures begin [H or 1]."""

_EVENT_VALUES = ("factor", "seen", "per_lead", "in_leads")
EVENT = np.dtype([*((name, "f4") for name in _EVENT_VALUES), ("cell", "u4"), ("until", "u4"), ("reached", "u4")])
"""What an exposure is to know of an event: what it does to the gain; how much of the exposure sees that, less 1 where
the event lies within; one over the length of its ramp, us, and how far from the start the ramp begins, in such lengths;
its pixel; nodes before it, all of them where it comes after the end, and nodes before its ramp."""
PIXEL = np.dtype([("gain", "f4"), ("mean", "f4"), ("share", "f4"), ("number", "i4")])
"""The gain of a pixel; what events change of the mean of it over the exposure, and of the second plane's part in that;
and how many events there were since the first plane, and 65536 times how many there are until the second."""
Work = tuple[NDArray[Any], NDArray[Any]]
"""Where exposures over a time are worked out: `EVENT` [N], and `PIXEL` of a band of rows."""

# Pixels of a band of rows: 16 bytes of each are kept near.
_BAND = 40_000
# Events that are timed at once: what is told of them stays in the nearest cache.
_CHUNK = 512
_ONE, _ZERO = np.float32(1), np.float32(0)


def rows_of(width: int) -> int:
    """Tell how many rows a band has, by the width of the image."""
    return max(1, _BAND // width)


@compiled
def lay_out(
    work: Work, swept: Swept, span_us: tuple[Times, Times], grid: Grid, nodes: int, shape: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay what is to be known of an exposure's events out by bands of rows, each in the order of time.

    Args:
        work: records are written.
        swept: key planes and events.
        span_us, grid: of the exposure.
        nodes: how many the exposure has.
        shape: H, W.

    Returns:
        The first record of each band, and the one after its last.
    """
    height, width = shape
    cells, factors, per_band = swept[1][0], swept[1][3], len(work[1])
    begin = np.searchsorted(swept[1][1], int(span_us[0].min()), side="right")
    end = max(begin, np.searchsorted(swept[1][1], int(span_us[1].max() + swept[3]), side="right"))
    many = np.zeros(-(-height // (per_band // width)), np.int64)
    for cell in cells[begin:end]:
        many[np.uint64(_row_of(np.uint64(cell), per_band))] += 1
    starts = np.cumsum(many) - many
    ends = starts.copy()
    times, places = np.empty((4, _CHUNK), np.float32), np.empty((3, _CHUNK + 1), np.int32)
    (seen, rest, per, on), (acts, before, before_ramp) = (
        (times[0], times[1], times[2], times[3]), (places[0], places[1], places[2])
    )  # fmt: skip
    for first_event in range(begin, end, _CHUNK):
        which = first_event, min(first_event + _CHUNK, end)
        chosen = _time_events(times, places, swept, which, span_us, grid, width)
        for n in range(np.uint64(chosen)):
            event = np.uint64(acts[n])
            k = np.uint64(first_event) + event
            band = np.uint64(_row_of(np.uint64(cells[k]), per_band))
            record = work[0][np.uint64(ends[band])]
            ends[band] += 1
            record.factor, record.cell = factors[k], np.uint32(cells[k])
            record.seen, record.per_lead, record.in_leads = seen[event], per[event], on[event]
            record.until = np.uint32(before[event] if rest[event] >= _ZERO else nodes)
            record.reached = np.uint32(before_ramp[event])
    return starts, ends


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
def _row_of(cell: np.uint64, width: int) -> Any:
    """Divide by the width: as a product, which takes a tenth of the time; exact for all 31 bits of a pixel's place."""
    return int((np.float64(cell) + 0.5) * (1.0 / np.float64(width)))
