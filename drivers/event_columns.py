"""Columns of numbers, as files have them, become a batch of events: all before the first row that is no event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.packets.clock import LATEST_US
from drivers.sense import EXPECTED_POLARITIES, Polarity, are_polarities, brighter, time_us
from nire.types import EventBatch

Columns = tuple[NDArray[Any], NDArray[np.uint16], NDArray[np.uint16], NDArray[Any]]
"""t in the unit of a file, x, y, and p as the file has it; [N] each."""


class BadEvent(ValueError):
    """A row is no event; the words say why. `index`: of the row, from 0."""

    def __init__(self, index: int, why: str) -> None:
        """Keep the place."""
        super().__init__(why)
        self.index = index


def events_of(columns: Columns, *, unit: str, polarity: Polarity, offset_us: int = 0) -> Iterator[EventBatch]:
    """Yield the events of a piece of a file as one batch, in its order; none where it holds none.

    Args:
        columns: of the piece.
        unit: of the times: s, ms, us or ns.
        polarity: what the values of p mean.
        offset_us: to be added to the times.

    Raises:
        BadEvent: a time is none that a clock shows, or a polarity is none; after all events before it.
    """
    t, x, y, p = columns
    t_us = time_us(t, unit) + offset_us
    count, why = t_us.size, ""
    if count and (t_us.min() < -LATEST_US or t_us.max() > LATEST_US):
        count = int(np.argmax((t_us < -LATEST_US) | (t_us > LATEST_US)))
        why = f"its time is {t[count]}"
    try:
        is_brighter = brighter(p[:count], polarity)
    except ValueError:
        count = int(np.argmin(are_polarities(p, polarity)))
        why = f"its polarity is {p[count]}, {EXPECTED_POLARITIES}"
        is_brighter = brighter(p[:count], polarity)
    if count:
        yield EventBatch(t_us[:count], x[:count], y[:count], is_brighter, int(t_us[:count].max()))
    if why:
        raise BadEvent(count, why)
