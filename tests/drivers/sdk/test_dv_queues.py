"""Where a full queue of the SDK has left a hole, and that heartbeats and losses come in between."""

from __future__ import annotations

import itertools
from typing import Any

from drivers.sdk.dv_queues import DvQueues
from nire.errors import DeviceLost
from nire.types import EventBatch, Gap, SourcePacket
from tests.drivers.cameras import stub_davis as stub


class _Reader:
    """Gives event stores; None where it has none at that moment."""

    def __init__(self, *t_us: int | None) -> None:
        self._left = [None if t is None else stub.store_of([(t, 1, 1, True), (t + 500, 1, 1, False)]) for t in t_us]

    def getNextEventBatch(self) -> Any:
        return self._left.pop(0) if self._left else None


def _until_lost(queues: DvQueues) -> list[SourcePacket]:
    """What came before the loss, which is seen at the fourth look at the queues."""
    looks = itertools.count()
    packets: list[SourcePacket] = []
    try:
        for packet in queues.packets(lambda _: "it ended" if next(looks) > 3 else ""):
            packets.append(packet)
    except DeviceLost as error:
        assert str(error) == "it ended"  # noqa: PT017 - what came before it is the matter here
        return packets
    raise AssertionError("it did not end")


def _queues(*t_us: int | None, full_at: int | None) -> DvQueues:
    return DvQueues(_Reader(*t_us), channels=1, slack_us=1000, full_at=full_at)


def _places(packets: list[SourcePacket]) -> list[Any]:
    return [
        (packet.t0_us, packet.t1_us) if isinstance(packet, Gap) else int(packet.t_us[0])
        for packet in packets
        if isinstance(packet, Gap) or (isinstance(packet, EventBatch) and len(packet))
    ]


def test_hole_lies_behind_the_last_item_that_a_full_queue_held() -> None:
    packets = _until_lost(_queues(1000, 2000, 3000, 9000, 10_000, full_at=3))
    assert _places(packets) == [1000, 2000, 3000, (3500, 9000), 9000, 10_000]


def test_hole_of_a_queue_that_was_just_full_shows_with_the_next_item() -> None:
    packets = _until_lost(_queues(1000, 2000, 3000, None, 9000, None, 10_000, full_at=3))
    assert _places(packets) == [1000, 2000, 3000, (3500, 9000), 9000, 10_000]


def test_queue_that_was_never_full_has_no_hole() -> None:
    times = (1000, 2000, None, 3000, 9000)
    assert _places(_until_lost(_queues(*times, full_at=3))) == [1000, 2000, 3000, 9000]
    assert _places(_until_lost(_queues(*times, full_at=None))) == [1000, 2000, 3000, 9000]
