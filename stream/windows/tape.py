"""Events one behind the other in memory that is written once: a window's events are a view of it, never a copy.

Beside them runs what is known of them: where events are missing, and when which promise was received.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch, Gap

_KINDS = (np.int64, np.uint16, np.uint16, np.uint8)


class Tape:
    """The events of one life of the device clock, from the oldest that may still be asked for.

    Windows that begin alike begin at the same place of memory, so that a backend sees at once what it knows already.

    Attributes:
        watermark_us: no event before this time will come any more.
    """

    def __init__(self, epoch: int = 0) -> None:
        """Begin without events."""
        self.watermark_us = -(2**62)
        self._epoch = epoch
        self._columns: tuple[NDArray[Any], ...] = tuple(np.empty(0, kind) for kind in _KINDS)
        self._gaps: list[Gap] = []
        self._marks: deque[tuple[int, int]] = deque()
        self._start = 0
        self._end = 0

    def __len__(self) -> int:
        """Count the events that are held."""
        return self._end - self._start

    @property
    def held(self) -> EventBatch:
        """All events that are held."""
        return self._view(self._start, self._end, self.watermark_us)

    def append(self, batch: EventBatch) -> None:
        """Take events that are not earlier than those before them."""
        if batch.watermark_us > self.watermark_us:
            self.watermark_us = batch.watermark_us
            self._marks.append((batch.watermark_us, batch.received_ns))
        end = self._end + len(batch)
        if end > len(self._columns[0]):
            self._move(len(self) + len(batch))
            end = self._end + len(batch)
        for column, new in zip(self._columns, (batch.t_us, batch.x, batch.y, batch.p), strict=True):
            column[self._end : end] = new
        self._end = end

    def mark(self, gap: Gap) -> None:
        """Take note of a span whose events are missing."""
        self._gaps.append(gap)

    def gaps_in(self, t0_us: int, t1_us: int) -> tuple[Gap, ...]:
        """Find the gaps that touch [t0_us, t1_us)."""
        return tuple(gap for gap in self._gaps if gap.t1_us > t0_us and gap.t0_us < t1_us)

    def received_ns(self, until_us: int) -> int:
        """Tell when it was received that all events before a time are there; 0 where they are not."""
        return next((ns for mark_us, ns in self._marks if mark_us >= until_us), 0)

    def cut(self, t0_us: int, t1_us: int) -> EventBatch:
        """Look at the events of [t0_us, t1_us)."""
        low, high = np.searchsorted(self._columns[0][self._start : self._end], (t0_us, t1_us))
        return self._view(self._start + int(low), self._start + int(high), t1_us)

    def forget(self, before_us: float) -> None:
        """Hold what lies before a time no longer; views of events stay what they are."""
        self._start += int(np.searchsorted(self._columns[0][self._start : self._end], before_us))
        while len(self._marks) > 1 and self._marks[1][0] < before_us:
            self._marks.popleft()
        self._gaps = [gap for gap in self._gaps if gap.t1_us >= before_us]

    def _view(self, low: int, high: int, watermark_us: int) -> EventBatch:
        t_us, x, y, p = self._columns
        part = slice(low, high)
        return EventBatch(t_us[part], x[part], y[part], p[part], watermark_us, epoch=self._epoch)

    def _move(self, wanted: int) -> None:
        """Go on in other memory, with room for twice as many: what was lent is not touched."""
        part = slice(self._start, self._end)
        self._columns = tuple(_moved(column[part], wanted) for column in self._columns)
        self._start, self._end = 0, part.stop - part.start


def _moved(column: NDArray[Any], wanted: int) -> NDArray[Any]:
    larger = np.empty(2 * wanted, column.dtype)
    larger[: len(column)] = column
    return larger
