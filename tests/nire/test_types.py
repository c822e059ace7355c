"""Parts and joins of event batches are the columns that they say."""

from __future__ import annotations

import numpy as np
import pytest

from nire.types import EventBatch
from tests.nire.windows import random_events


def rows(batch: EventBatch) -> list[tuple[int, int, int, int]]:
    return list(zip(*(column.tolist() for column in (batch.t_us, batch.x, batch.y, batch.p)), strict=True))


@pytest.mark.parametrize("cut", [0, 1, 17, 40])
def test_parts_joined_again_are_the_batch(cut: int) -> None:
    batch = random_events(5, 40, 1000, 9000)
    joined = EventBatch.joined([batch.part(slice(cut), 3), batch.part(slice(cut, None))])
    assert rows(joined) == rows(batch)
    assert (joined.watermark_us, joined.epoch) == (batch.watermark_us, batch.epoch)


def test_part_by_mask_keeps_order_promise_and_life() -> None:
    batch = EventBatch(*(np.arange(6).astype(kind) for kind in (np.int64, np.uint16, np.uint16, np.uint8)), 99, 7, 2)
    part = batch.part(batch.x % 2 == 1)
    assert rows(part) == [(1, 1, 1, 1), (3, 3, 3, 3), (5, 5, 5, 5)]
    assert (part.watermark_us, part.received_ns, part.epoch) == (99, 7, 2)
    assert batch.part(slice(2), 50).watermark_us == 50


def test_part_by_slice_copies_nothing() -> None:
    batch = random_events(5, 40, 1000, 9000)
    assert np.shares_memory(batch.part(slice(3, 9)).t_us, batch.t_us)


def test_joined_promises_what_is_asked_else_what_the_last_does() -> None:
    first, last = random_events(1, 5, 0, 100), random_events(2, 5, 100, 200)
    assert EventBatch.joined([first, last]).watermark_us == last.watermark_us
    assert EventBatch.joined([first, last], 170).watermark_us == 170
