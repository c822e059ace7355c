"""Whatever a source yields, behind the door time never goes back within an epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drivers.packets.cleaning import cleaned
from nire.errors import SourceError
from nire.types import EventBatch, Frame, Gap, SourcePacket
from tests.drivers.packets.made import Given, events, frame

TIMES = st.one_of(st.integers(0, 5_000), st.integers(0, 3_000_000))
BATCHES = st.builds(
    lambda times, ahead: events(times, watermark_us=times[-1] + ahead),
    st.lists(TIMES, min_size=1, max_size=6),
    st.integers(-2_000, 2_000),
)
HEARTBEATS = TIMES.map(EventBatch.empty)
FRAMES = st.builds(lambda start, length: frame(0, start, start + length), TIMES, st.integers(0, 20_000))


def _until_refused(packets: Iterable[SourcePacket]) -> Iterator[SourcePacket]:
    with contextlib.suppress(SourceError):
        yield from packets


@given(st.lists(st.one_of(BATCHES, HEARTBEATS, FRAMES), max_size=12))
def test_any_packets_come_out_in_order(packets: list[SourcePacket]) -> None:
    stream = cleaned(Given(packets))
    floor, epoch, seen, frames = -np.inf, 0, 0, 0
    for packet in _until_refused(stream):
        if isinstance(packet, Gap):
            assert packet.epoch == epoch + 1
            floor, epoch = packet.t0_us, packet.epoch
        elif isinstance(packet, EventBatch):
            assert packet.epoch == epoch
            times = [floor, *packet.t_us.tolist(), packet.watermark_us]
            assert times == sorted(times)
            floor, seen = packet.watermark_us, seen + len(packet)
        elif isinstance(packet, Frame):
            frames += 1
    if stream.counters.clock_resets >= 8:
        return  # refused: such a stream has no order
    assert seen + stream.counters.events_stray == sum(
        len(packet) for packet in packets if isinstance(packet, EventBatch)
    )
    counters = stream.counters
    assert frames + counters.frames_stale + counters.frames_repeated == sum(
        isinstance(packet, Frame) for packet in packets
    )
    assert stream.counters.clock_resets == epoch
