"""Windows of events alone that wait for a slow machine, as one: longer windows for a method that remembers.

A method that goes on from window to window needs all events, and takes the same time for a window however long it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from nire.types import ContentWindow

MOST_JOINED = 4
"""Windows that are made one at most: what a method resolves is spread over all of them, it has learned from windows of
at most 120 ms, and a pixel that fires some hundred times in a window is taken for a mad one."""


def joined(waiting: Sequence[ContentWindow]) -> list[ContentWindow]:
    """Make the newest windows that follow one another without a break one.

    Args:
        waiting: windows of one stream without frames, the oldest first.

    Returns:
        What was before them, and one window with the newest one's number; its events are to be filled in.
    """
    first = len(waiting) - min(len(waiting), MOST_JOINED)
    for n, (before, after) in enumerate(pairwise(waiting), 1):
        if before.answers_us[1] != after.answers_us[0]:
            first = max(first, n)
    parts = waiting[first:]
    if len(parts) < 2:
        return list(waiting)
    whole = replace(
        parts[-1],
        t0_us=parts[0].t0_us,
        answers_us=(parts[0].answers_us[0], parts[-1].answers_us[1]),
        covered_us=(parts[0].covered_us[0], parts[-1].covered_us[1]),
        gaps=tuple(dict.fromkeys(gap for part in parts for gap in part.gaps)),
    )
    return [*waiting[:first], whole]
