"""The events that windows are cut from: a window is a view of them where it lies in one block, else one copy.

Beside them runs what is known of them: where events are missing, and when which promise was received.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch, Gap
from stream.blocks import Block, Blocks, Pool, block_of


@dataclass(slots=True)
class _Stretch:
    """Events one behind the other in a block.

    Attributes:
        block: where they are.
        first: number of the first one; a tape counts its events from 0.
        start, end: their places in the block.
    """

    block: Block
    first: int
    start: int
    end: int

    @property
    def behind(self) -> int:
        """Number of the event that follows."""
        return self.first + self.end - self.start

    @property
    def t_us(self) -> NDArray[np.int64]:
        """Their times."""
        return self.block.t_us[self.start : self.end]

    def holds(self, low: int, high: int) -> bool:
        """Tell whether all events from one number to another are here."""
        return self.first <= low and high <= self.behind

    def part(self, low: int, high: int, like: EventBatch) -> EventBatch:
        """Look at the events from one number to another that are here."""
        places = (self.start + min(max(low, self.first), self.behind) - self.first for low in (low, high))
        return self.block.seen(slice(*places), like)


class Tape:
    """The events of one life of the device clock, from the oldest that may still be asked for.

    What a batch from a ring brings lies in a block already and stays there; other batches are copied into blocks, once.
    Windows that begin alike begin at the same place of memory, so that a backend sees at once what it knows already:
    one that grows across the end of a block is copied to another place, and goes on there.

    Attributes:
        epoch: of the events.
        watermark_us: no event before this time will come any more.
    """

    def __init__(self, epoch: int = 0) -> None:
        """Begin without events."""
        self.watermark_us = -(2**62)
        self.epoch = epoch
        self._pool = Pool()
        self._blocks = Blocks(self._pool)
        self._stretches: deque[_Stretch] = deque()
        self._copied: dict[int, _Stretch] = {}
        """Windows across blocks, as far as they have been asked for, by the number of their first event."""
        self._gaps: list[Gap] = []
        self._marks: deque[tuple[int, int]] = deque()
        self._first = 0
        self._behind = 0

    def __len__(self) -> int:
        """Count the events that are held."""
        return self._behind - self._first

    @property
    def held(self) -> Iterator[EventBatch]:
        """All events that are held, a batch for each block."""
        empty = self._empty(self.watermark_us)
        return (stretch.part(stretch.first, stretch.behind, empty) for stretch in self._stretches)

    def append(self, batch: EventBatch) -> None:
        """Take events that are not earlier than those before them."""
        if batch.watermark_us > self.watermark_us:
            self.watermark_us = batch.watermark_us
            self._marks.append((batch.watermark_us, batch.received_ns))
        if not len(batch):
            return
        last = self._stretches[-1] if self._stretches else None
        block, start = self._located(batch) or self._blocks.put(batch)
        if last is not None and last.block is block and last.end == start:
            last.end += len(batch)
        else:
            self._stretches.append(_Stretch(block, self._behind, start, start + len(batch)))
        self._behind += len(batch)

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
        """Take the events of [t0_us, t1_us)."""
        low, high, empty = self._number(t0_us), self._number(t1_us), self._empty(t1_us)
        if low >= high:
            return empty
        stretch = next((stretch for stretch in self._stretches if stretch.holds(low, high)), None)
        return (stretch or self._across(low, high)).part(low, high, empty)

    def forget(self, before_us: float) -> None:
        """Hold what lies before a time no longer; views of events stay what they are."""
        self._first = self._number(before_us)
        while self._stretches and self._stretches[0].behind <= self._first:
            self._stretches.popleft()
        if self._stretches:
            oldest = self._stretches[0]
            oldest.start, oldest.first = oldest.start + self._first - oldest.first, self._first
        self._copied = {first: copied for first, copied in self._copied.items() if first >= self._first}
        while len(self._marks) > 1 and self._marks[1][0] < before_us:
            self._marks.popleft()
        self._gaps = [gap for gap in self._gaps if gap.t1_us >= before_us]

    def _located(self, batch: EventBatch) -> tuple[Block, int] | None:
        """Find the block and the place of a batch that lies in one."""
        last = self._stretches[-1].block if self._stretches else None
        block = last if last is not None and last.memory is batch.t_us.base else block_of(batch)
        place = None if block is None else block.place_of(batch)
        return None if block is None or place is None else (block, place)

    def _number(self, t_us: float) -> int:
        """Number the first event that is not before a time."""
        whole_us = math.ceil(t_us)  # a float would make numpy convert all times first
        for stretch in self._stretches:
            if stretch.t_us[-1] >= whole_us:
                return stretch.first + int(np.searchsorted(stretch.t_us, whole_us))
        return self._behind

    def _across(self, low: int, high: int) -> _Stretch:
        """Copy the events from one number to another into one block; what was copied for as long a window stays."""
        copied = self._copied.get(low)
        if copied is None or copied.block.room < high - low:
            # Windows grow, and one that had to be copied once more would begin elsewhere.
            room = max(2 * (high - low), self._stretches[-1].block.room // 2)
            copied = self._copied[low] = _Stretch(self._pool.block(room), low, 0, 0)
        for stretch in self._stretches:
            missing = stretch.part(copied.behind, high, self._empty(0))
            copied.block.write(copied.end, missing)
            copied.end += len(missing)
        return copied

    def _empty(self, watermark_us: int) -> EventBatch:
        return EventBatch.empty(watermark_us, epoch=self.epoch)
