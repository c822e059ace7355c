"""Tell missing events from a still scene: spans between exposures in which a busy camera sent nothing at all.

Some recordings keep only the events inside exposures. Their frames look complete, but re-exposing across such a
span would take "no event" for "no change". The rule is a heuristic, on purpose a narrow one: the silence fills the
span between two exposures, to a millisecond, and the rate just before it would have given `_EXPECTED` events.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch, Frame, Gap

_SHORTEST_US = 2000
_SLACK_US = 1000
_EXPECTED = 100
_RATE_OVER_US = 10_000
_STRIDE = 64

FramesUntil = Callable[[Callable[[Frame], bool]], list[Frame]]
"""Looks at the frames from the newest one behind the events up to the first one that is enough."""


def silent_spans(batches: Iterable[EventBatch], frames_until: FramesUntil) -> Iterator[EventBatch | Gap]:
    """Pass event batches on, cut at silent spans, with a `Gap` in each.

    Args:
        batches: in time order.
        frames_until: called with a test that is true for the first frame that need not be looked at.
    """
    latest_us: int | None = None
    recent: list[tuple[int, NDArray[np.int64]]] = []  # times of late batches, and the last of each
    for batch in batches:
        t_us = batch.t_us
        last_us = int(t_us[-1])
        start = 0
        for at in _holes(t_us, latest_us):
            known = np.concatenate([*(times_us for _, times_us in recent), t_us[:at]])
            gap = _gap(known, int(t_us[at]), frames_until)
            if gap is None:
                continue
            if at > start:
                yield batch.part(slice(start, at), int(t_us[at - 1]))
            yield gap
            start = at
        yield batch.part(slice(start, None), batch.watermark_us) if start else batch
        latest_us = last_us
        recent.append((last_us, t_us))
        recent = [(end_us, times_us) for end_us, times_us in recent if end_us > last_us - _RATE_OVER_US]


def _holes(t_us: NDArray[np.int64], latest_us: int | None) -> list[int]:
    """Places of events that come long after the one before them, which is at `latest_us` for the first."""
    first_us, last_us = int(t_us[0]), int(t_us[-1])
    holes = [0] if latest_us is not None and first_us - latest_us >= _SHORTEST_US else []
    if last_us - first_us < _SHORTEST_US:
        return holes
    # Neighbours are no further apart than every 64th event is from the next one, and most batches have no hole.
    some_us = t_us[::_STRIDE]
    if last_us - int(some_us[-1]) >= _SHORTEST_US or (some_us[1:] - some_us[:-1] >= _SHORTEST_US).any():
        holes += (np.flatnonzero(t_us[1:] - t_us[:-1] >= _SHORTEST_US) + 1).tolist()
    return holes


def _gap(known_us: NDArray[np.int64], next_us: int, frames_until: FramesUntil) -> Gap | None:
    """Judge the silence between the last known event and the next one."""
    last_us = int(known_us[-1])
    rate = np.count_nonzero(known_us > last_us - _RATE_OVER_US) / _RATE_OVER_US
    if rate * (next_us - last_us) < _EXPECTED:
        return None
    frames = frames_until(lambda frame: frame.exposure_start_us > next_us + _SLACK_US)
    for left, right in itertools.pairwise(frames):
        t0_us, t1_us = left.exposure_end_us, right.exposure_start_us
        if t1_us > t0_us and abs(last_us - t0_us) <= _SLACK_US and abs(next_us - t1_us) <= _SLACK_US:
            return Gap(
                max(t0_us, last_us + 1), min(t1_us, next_us), "the recording has no events between these exposures"
            )
    return None
