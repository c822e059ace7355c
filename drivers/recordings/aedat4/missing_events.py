"""Tell missing events from a still scene: spans between exposures in which a busy camera sent nothing at all.

Some recordings keep only the events inside exposures. Their frames look complete, but re-exposing across such a
span would take "no event" for "no change". The rule is a heuristic, on purpose a narrow one: the silence fills the
span between two exposures, to a millisecond, and the rate just before it would have given `_EXPECTED` events.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from nire.types import EventBatch, Frame, Gap

_SHORTEST_US = 2000
_SLACK_US = 1000
_EXPECTED = 100
_RATE_OVER_US = 10_000

FramesUntil = Callable[[Callable[[Frame], bool]], list[Frame]]
"""Looks at the frames from the newest one behind the events up to the first one that is enough."""


def silent_spans(batches: Iterable[EventBatch], frames_until: FramesUntil) -> Iterator[EventBatch | Gap]:
    """Pass event batches on, cut at silent spans, with a `Gap` in each.

    Args:
        batches: in time order.
        frames_until: called with a test that is true for the first frame that need not be looked at.
    """
    latest_us: int | None = None
    recent = np.empty(0, np.int64)
    for batch in batches:
        t_us = batch.t_us
        before = int(t_us[0]) if latest_us is None else latest_us
        holes = np.flatnonzero(np.diff(t_us, prepend=before) >= _SHORTEST_US)
        start = 0
        for at in holes:
            known = np.concatenate([recent, t_us[:at]])
            gap = _gap(known, int(t_us[at]), frames_until)
            if gap is None:
                continue
            if at > start:
                yield batch.part(slice(start, int(at)), int(t_us[at - 1]))
            yield gap
            start = int(at)
        yield batch.part(slice(start, len(batch)), batch.watermark_us) if start else batch
        latest_us = int(t_us[-1])
        recent = np.concatenate([recent, t_us])
        recent = recent[recent > latest_us - _RATE_OVER_US]


def _gap(known_us: np.ndarray, next_us: int, frames_until: FramesUntil) -> Gap | None:
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
