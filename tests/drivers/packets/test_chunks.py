"""Packets as bytes: what a driver gives before cleaning survives too."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.packets.chunks import decode_packet, encode_packet
from nire.types import EventBatch


@pytest.mark.parametrize(
    "t_us",
    [[], [5, 3, 4], [9, 100_000, 0], [-(1 << 63), (1 << 63) - 1, 0], [1 << 40, 0, 1 << 41], [7, 7, 7]],
)
def test_times_in_any_order_survive(t_us: list[int]) -> None:
    count = len(t_us)
    x = np.arange(count, dtype=np.uint16)
    batch = EventBatch(np.array(t_us, np.int64), x, x, (x % 2).astype(np.uint8), 3)
    found = decode_packet(*encode_packet(batch))
    assert isinstance(found, EventBatch)
    assert found.t_us.tolist() == t_us
    assert found.p.tolist() == batch.p.tolist()
