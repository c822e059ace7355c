"""Blocks: what was lent is never written again while anybody reads it, and then its memory is used again."""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch

from nire.types import EventBatch
from stream.blocks import EVENT_BYTES, Block, Blocks, Pool, block_of, most_bytes
from stream.windows.tape import Tape
from tests.nire.windows import random_events

NAMES = ("t_us", "x", "y", "p")
ROOM = 64


def columns(batch: EventBatch) -> list[bytes]:
    return [getattr(batch, name).tobytes() for name in NAMES]


def batches(count: int, events: int = ROOM // 2) -> list[EventBatch]:
    """Two fill a block of `ROOM`; each differs from all others."""
    return [random_events(k, events, 10_000_000 * k, 10_000_000 * (k + 1)) for k in range(count)]


def memory_under(batch: EventBatch) -> np.ndarray:
    """What is used again; to keep it keeps nobody from that."""
    block = block_of(batch)
    assert block is not None
    assert isinstance(block.memory.base, np.ndarray)
    return block.memory.base


def test_held_events_are_those_that_came_and_lie_one_behind_the_other() -> None:
    sent, blocks = batches(2), Blocks(least_events=ROOM)
    first, second = (blocks.hold(batch) for batch in sent)
    assert [columns(first), columns(second)] == [columns(batch) for batch in sent]
    assert (second.watermark_us, second.epoch) == (sent[1].watermark_us, sent[1].epoch)
    block = block_of(first)
    assert block is not None
    assert (block.place_of(first), block.place_of(second)) == (0, ROOM // 2)


def test_memory_that_is_read_is_not_written_and_memory_that_nobody_reads_is_used_again() -> None:
    sent, blocks = batches(40), Blocks(least_events=ROOM)
    kept, seen, memories = [], [], {}
    for k, batch in enumerate(sent):
        held = blocks.hold(batch)
        memories[id(memory_under(held))] = memory_under(held)
        if k % 10 == 0:
            kept.append(held.part(slice(3, 9)))
            seen.append(columns(batch.part(slice(3, 9))))
        del held
    assert [columns(batch) for batch in kept] == seen
    # Four blocks are read to the end; the others of the twenty took turns in two.
    assert len({id(memory_under(batch)) for batch in kept}) == 4
    assert len(memories) == 4 + 2


def test_one_column_or_a_tensor_of_it_keeps_the_whole_block() -> None:
    pool = Pool()
    blocks = Blocks(pool, least_events=ROOM)
    (batch,) = batches(1, ROOM)
    tensor = torch.from_numpy(blocks.hold(batch).p[5:])
    for other in batches(5, ROOM)[1:]:
        blocks.hold(other)
    assert tensor.numpy().tobytes() == batch.p[5:].tobytes()


def test_pool_keeps_little_of_what_came_back() -> None:
    pool = Pool()
    lent = [pool.block(ROOM) for _ in range(20)]
    memories = [block.memory.base for block in lent]
    del lent
    again = [pool.block(ROOM) for _ in range(20)]
    assert sum(block.memory.base is memory for block in again for memory in memories) == 2


def test_block_of_many_events_is_not_taken_for_few() -> None:
    pool = Pool()
    pool.block(1000 * ROOM)
    assert len(pool.block(ROOM).memory) == EVENT_BYTES * ROOM


def test_blocks_grow_with_the_rate_and_shrink_again() -> None:
    def rooms(blocks: Blocks, span_us: int, start_us: int) -> list[int]:
        found = []
        for k in range(400):
            t0_us = start_us + span_us * k
            block = block_of(blocks.hold(random_events(k, 1000, t0_us, t0_us + span_us)))
            found.append(0 if block is None else block.room)
        return found

    blocks = Blocks(least_events=2000)
    fast = rooms(blocks, 2000, 0)
    slow = rooms(blocks, 2_000_000, 10_000_000)
    assert 125_000 <= fast[-1] <= 500_000  # of 0.5 events a microsecond, a quarter of a second, at most doubled
    assert slow[-1] == 2048


def test_what_was_withdrawn_leaves_its_place_to_the_next() -> None:
    blocks = Blocks(least_events=ROOM)
    first, torn, second = batches(3, 10)
    held = blocks.hold(first)
    blocks.withdraw(blocks.hold(torn))
    after = blocks.hold(second)
    assert [columns(held), columns(after)] == [columns(first), columns(second)]
    block = block_of(after)
    assert block is not None
    assert block.place_of(after) == 10


def test_batch_that_is_changed_or_thinned_lies_in_no_block() -> None:
    held = Blocks(least_events=ROOM).hold(batches(1)[0])
    block = block_of(held)
    assert block is not None
    others = {
        "other polarities": replace(held, p=1 - held.p),
        "columns exchanged": replace(held, x=held.y, y=held.x),
        "columns of other events": replace(held, x=held.x[1:], t_us=held.t_us[:-1], y=held.y[:-1], p=held.p[:-1]),
        "every second one": held.part(slice(None, None, 2)),
        "other times": replace(held, t_us=held.t_us + 1),
    }
    assert {name: block.place_of(other) for name, other in others.items()} == dict.fromkeys(others)
    assert block_of(batches(1)[0]) is None
    assert block.place_of(held.part(slice(5, 9))) == 5
    assert np.shares_memory(held.part(slice(5, 9)).x, block.memory)


@pytest.mark.parametrize("rate_meps", [0.1, 1.0, 3.0])
def test_memory_after_a_stall_is_at_most_what_is_told(rate_meps: float) -> None:
    """Windows of 65 ms every 40 ms, four of which are kept; half a second comes at once."""
    made, stall_us, step_us = CountedPool(), 500_000, 10_000
    blocks, tape = Blocks(made), Tape()
    tape._pool = made
    kept: deque[EventBatch] = deque(maxlen=4)
    most, cut_us = 0, 0
    for k in range(200):
        t0_us = k * step_us
        tape.append(blocks.hold(random_events(k, round(rate_meps * step_us), t0_us, t0_us + step_us)))
        stalls = 0 < t0_us % 1_000_000 <= stall_us
        while not stalls and cut_us + 65_000 <= tape.watermark_us:
            kept.append(tape.cut(cut_us, cut_us + 65_000))
            cut_us += 40_000
            tape.forget(cut_us)
        most = max(most, made.size())
    told = most_bytes(rate_meps, stall_us / 1e6)
    assert told / 4 < most <= told


class CountedPool(Pool):
    """A pool that knows what it has given out and what came back."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[weakref.ref[np.ndarray]] = []

    def block(self, events: int) -> Block:
        block = super().block(events)
        assert isinstance(block.memory.base, np.ndarray)
        self.given.append(weakref.ref(block.memory.base))
        return block

    def size(self) -> int:
        memory = {id(array): array.nbytes for ref in self.given if (array := ref()) is not None}
        return sum(memory.values())
