"""Tell a device clock that began again from single times that are wrong.

A clock that began again stays back. Times that are wrong come alone or in short bursts, behind the clock or ahead of
it, and the clock goes on as before. So a step is believed when 16 events keep to it; fewer are strays. Where that many
are not at hand, events wait for those that follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch

CLAMP_US = 1000
"""A step back of at most this is jitter."""
LATEST_US = 1 << 60
"""36,000 years: no clock shows a time beyond, either way, and sums of such times would leave 64 bits."""

_LEAP_US = 1_000_000  # ahead: a silence may last that long and longer, but so may a wrong time lead
_KEPT = 16  # events that keep to a step until it is believed


@dataclass(frozen=True, slots=True)
class ClockReset:
    """The clock began again: with what time, when that was received, and in which epoch of the source."""

    t_us: int
    received_ns: int
    epoch: int


class SteadyClock:
    """Passes batches on without strays, and says where the clock began again.

    Attributes:
        strays: events left out so far.
        floor_us: the newest time that was passed on in this life of the clock; None before the first.
    """

    def __init__(self) -> None:
        """Begin before the first event."""
        self.strays = 0
        self.floor_us: int | None = None
        self._held: EventBatch | None = None

    @property
    def held_us(self) -> int | None:
        """Time of the first event that waits for those that follow it; None where none does."""
        return None if self._held is None else int(self._held.t_us[0])

    def feed(self, batch: EventBatch) -> Iterator[EventBatch | ClockReset]:
        """Take a batch; times in what is passed on go back by at most `CLAMP_US`, except across a `ClockReset`."""
        if self._held is None and self._is_steady(batch):
            self._pass(batch)
            yield batch
            return
        if not len(batch):
            yield from self._heartbeat(batch)
            return
        if self._held is not None:
            batch, self._held = EventBatch.joined([self._held, batch]), None
        yield from self._judged(batch, is_last=False)

    def settle(self) -> Iterator[EventBatch | ClockReset]:
        """Believe what waits: nothing follows, or something else has told."""
        if self._held is not None:
            batch, self._held = self._held, None
            yield from self._judged(batch, is_last=True)

    def begin_at(self, t_us: int) -> None:
        """Begin a life of the clock that something else has told of."""
        self.floor_us = t_us

    def _is_steady(self, batch: EventBatch) -> bool:
        floor_us, t_us = self.floor_us, batch.t_us
        if not len(batch):
            return floor_us is None or batch.watermark_us >= floor_us - CLAMP_US
        if floor_us is not None and not floor_us - CLAMP_US <= int(t_us[0]) <= floor_us + _LEAP_US:
            return False
        if not (t_us[1:] < t_us[:-1]).any() and int(t_us[-1]) - int(t_us[0]) <= _LEAP_US:
            return True
        latest = np.maximum.accumulate(t_us[:-1])
        return bool((t_us[1:] >= latest - CLAMP_US).all() and (t_us[1:] <= latest + _LEAP_US).all())

    def _pass(self, batch: EventBatch) -> None:
        newest_us = max(batch.watermark_us, int(batch.t_us.max())) if len(batch) else batch.watermark_us
        self.floor_us = newest_us if self.floor_us is None else max(newest_us, self.floor_us)

    def _heartbeat(self, batch: EventBatch) -> Iterator[EventBatch | ClockReset]:
        """A promise without events: it settles what waits, or goes back itself."""
        yield from self.settle()
        if self.floor_us is not None and batch.watermark_us < self.floor_us - CLAMP_US:
            self.floor_us = batch.watermark_us
            yield ClockReset(batch.watermark_us, batch.received_ns, batch.epoch)
        self._pass(batch)
        yield batch

    def _judged(self, batch: EventBatch, *, is_last: bool) -> Iterator[EventBatch | ClockReset]:
        """Cut a batch at its steps, and decide about each."""
        watermark_us = batch.watermark_us
        has_strays = False
        while len(batch):
            at = _first_step(batch.t_us, self.floor_us)
            if at is None:
                newest_us = int(batch.t_us.max())
                batch = replace(batch, watermark_us=newest_us if has_strays else max(newest_us, watermark_us))
                self._pass(batch)
                yield batch
                return
            before, after = batch.part(slice(at)), batch.part(slice(at, None))
            ahead = self._strays_before(before.t_us, after.t_us)
            if ahead:
                self.strays += ahead
                has_strays = True
                batch = EventBatch.joined([before.part(slice(len(before) - ahead)), after])
                continue
            if len(before):
                before = replace(before, watermark_us=int(before.t_us.max()))
                self._pass(before)
                yield before
            back = _return_of(after.t_us, self.floor_us)
            if back:
                self.strays += back
                has_strays, batch = True, after.part(slice(back, None))
            elif len(after) > _KEPT or is_last:
                if self.floor_us is not None and int(after.t_us[0]) < self.floor_us:
                    yield ClockReset(int(after.t_us[0]), after.received_ns, after.epoch)
                self.floor_us, batch = int(after.t_us[0]), after
            else:
                self._held = after
                return

    def _strays_before(self, before: NDArray[np.int64], after: NDArray[np.int64]) -> int:
        """How many events before a step back lead alone: what follows goes on where the ones before them were."""
        if not before.size or after[0] >= before[-1]:
            return 0
        ahead = int(np.count_nonzero(np.logical_and.accumulate(before[::-1] > after[0] + CLAMP_US)))
        level = int(before[-ahead - 1]) if ahead < before.size else self.floor_us
        if not 0 < ahead < _KEPT or _return_of(after, int(before.max())):
            return 0
        if level is None:  # nothing came before them
            return ahead if after.size > _KEPT * ahead else 0
        return ahead if abs(int(after[0]) - level) <= _LEAP_US and int(after[0]) >= level - CLAMP_US else 0


def _first_step(t_us: NDArray[np.int64], floor_us: int | None) -> int | None:
    """The first event that steps back beyond jitter, or ahead beyond a short silence; None where none does."""
    latest = np.maximum.accumulate(t_us)
    latest = latest if floor_us is None else np.maximum(latest, floor_us)
    before = np.concatenate([[t_us[0] if floor_us is None else floor_us], latest[:-1]])
    steps = np.flatnonzero((t_us < before - CLAMP_US) | (t_us > before + _LEAP_US))
    return int(steps[0]) if steps.size else None


def _return_of(t_us: NDArray[np.int64], floor_us: int | None) -> int:
    """How many events it takes until times are near the clock again; 0 where they stay away."""
    if floor_us is None:
        return 0
    near = np.flatnonzero((t_us[: _KEPT + 1] >= floor_us - CLAMP_US) & (t_us[: _KEPT + 1] <= floor_us + _LEAP_US))
    return int(near[0]) if near.size else 0
