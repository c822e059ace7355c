"""Memory of events in blocks: written once, from front to back, lent as views, used again when nobody reads it.

Events are copied into a block as they come out of a ring, and are not moved again. Whoever keeps a view of some keeps
their block, for as long as it likes; it keeps no writer waiting, because the writer goes on in another one.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch

EVENT_BYTES = 13
_LEAST_EVENTS, _MOST_EVENTS = 1 << 17, 1 << 23  # 1.7 and 109 MB
# A window that lies across two blocks is copied: a block is to hold the events of several windows.
_LASTS_US = 250_000
# What the windows reach back that can still be asked, four pairs of frames that come 20 times a second or more.
_KEPT_US = 250_000
# Of those windows, how many may lie across two blocks.
_COPIES = 2
# Free memory that is kept: for the next block, and for the next window that is copied.
_SPARES = 2


def most_bytes(rate_meps: float, seconds: float) -> int:
    """Tell how much memory blocks take where a reader stalls, and then takes all that has come meanwhile.

    Args:
        rate_meps: M events a second.
        seconds: that it stalls.
    """
    room = min(max(_LEAST_EVENTS, round(rate_meps * _LASTS_US)), _MOST_EVENTS)
    full = math.ceil(rate_meps * (1e6 * seconds + _KEPT_US) / room)
    # Half a block at either end of what is held.
    return (full + 1 + _COPIES + _SPARES) * _bytes_of(room)


class _Memory(np.ndarray[tuple[int], np.dtype[np.uint8]]):
    """The bytes of a block, when it is used again too.

    It is a class of its own because numpy has a view keep the first array of its own class, not that one's memory. So
    all views of a block keep one plain array, and when that one goes nobody reads any more.
    """


class Block:
    """Columns of events; two of the same memory are the same."""

    __slots__ = ("_addresses", "_columns", "memory", "room")

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        """Lay the columns out.

        Args:
            memory: the array that all views of the block keep, of 13 bytes an event.
        """
        self.memory = memory
        self.room = room = len(memory) // EVENT_BYTES
        self._columns: tuple[NDArray[Any], ...] = (
            memory[: 8 * room].view(np.int64),
            memory[8 * room : 10 * room].view(np.uint16),
            memory[10 * room : 12 * room].view(np.uint16),
            memory[12 * room : 13 * room],
        )
        self._addresses = [column.ctypes.data for column in self._columns]

    @property
    def t_us(self) -> NDArray[np.int64]:
        """Times: int64 [room]; those that were not written are anything."""
        return self._columns[0]

    def write(self, at: int, batch: EventBatch) -> None:
        """Copy events to a place where nobody reads yet."""
        for column, new in zip(self._columns, _columns(batch), strict=True):
            column[at : at + len(batch)] = new

    def seen(self, which: slice, batch: EventBatch) -> EventBatch:
        """Look at events; what is not a column comes from `batch`."""
        t_us, x, y, p = (column[which] for column in self._columns)
        return replace(batch, t_us=t_us, x=x, y=y, p=p)

    def place_of(self, batch: EventBatch) -> int | None:
        """Tell at which place a batch begins that is a view of this block, in all columns; None for any other."""
        found = {
            (column.ctypes.data - address) // whole.itemsize if _is_part(column, whole) else None
            for column, whole, address in zip(_columns(batch), self._columns, self._addresses, strict=True)
        }
        return found.pop() if len(found) == 1 else None


def block_of(batch: EventBatch) -> Block | None:
    """Find the block that the times of a batch lie in; None where they lie elsewhere."""
    memory = batch.t_us.base
    return Block(memory) if isinstance(memory, np.ndarray) and isinstance(memory.base, _Memory) else None


class Pool:
    """Gives blocks out. Their memory comes back by itself when the last view of it is gone."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._free: deque[_Memory] = deque(maxlen=_SPARES)

    def block(self, events: int) -> Block:
        """Give a block with room for at least so many events, whose memory nobody reads."""
        memory = self._free_memory(EVENT_BYTES * events)
        if memory is None:
            memory = _Memory((_bytes_of(events),), np.uint8)
        lent = memory.view(np.ndarray)
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return Block(lent)

    def _free_memory(self, size: int) -> _Memory | None:
        # Not by iteration: memory may come back at any moment, when garbage is collected or another thread lets go.
        for _ in range(len(self._free)):
            memory = self._free.popleft()
            if size <= len(memory) <= 4 * size:
                return memory
            self._free.append(memory)
        return None


class Blocks:
    """Where a stream of events is written: block after block, each to last for about a quarter of a second."""

    def __init__(self, pool: Pool | None = None, *, least_events: int = _LEAST_EVENTS) -> None:
        """Begin with no block.

        Args:
            pool: gives the blocks; None = one of its own.
            least_events: that a block has room for, however few come.
        """
        self._pool = pool or Pool()
        self._least = least_events
        self._block: Block | None = None
        self._end = 0

    def put(self, batch: EventBatch) -> tuple[Block, int]:
        """Copy a batch behind the one before it, or into a new block where it does not fit: (block, place)."""
        if self._block is None or self._end + len(batch) > self._block.room:
            self._block, self._end = self._pool.block(max(len(batch), self._next_room())), 0
        place = self._end
        self._block.write(place, batch)
        self._end += len(batch)
        return self._block, place

    def hold(self, batch: EventBatch) -> EventBatch:
        """Copy a batch as `put` does, and look at the copy."""
        block, place = self.put(batch)
        return block.seen(slice(place, place + len(batch)), batch)

    def withdraw(self, batch: EventBatch) -> None:
        """Give the place of the last batch to the next one; nobody may look at it any more."""
        self._end -= len(batch)

    def _next_room(self) -> int:
        """As many events as will come while a block is to last, if they come as quickly as those of the last one."""
        if self._block is None or self._end == 0:
            return self._least
        span_us = int(self._block.t_us[self._end - 1]) - int(self._block.t_us[0])
        return min(max(self._least, self._end * _LASTS_US // max(1, span_us)), _MOST_EVENTS)


def _bytes_of(events: int) -> int:
    """Size of memory for so many events: a power of two of them, so that it serves the next, for a few more, too."""
    return EVENT_BYTES << max(0, events - 1).bit_length()


def _columns(batch: EventBatch) -> tuple[NDArray[Any], ...]:
    return batch.t_us, batch.x, batch.y, batch.p


def _is_part(column: NDArray[Any], whole: NDArray[Any]) -> bool:
    return column.base is whole.base and column.dtype == whole.dtype and column.strides == whole.strides
