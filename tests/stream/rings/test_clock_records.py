"""Clock records: through a ring in their place, beside it for others, into files and onto images."""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np
import pytest

from drivers.packets.chunks import decode_packet, encode_packet
from drivers.packets.unix_time import UnixStamps, absolute
from nire.types import EventBatch, Frame, Gap, WallClock
from stream.backends import open_reconstructor
from stream.config import load_config
from stream.config_sections import RingConfig
from stream.rings import packets as ring_packets
from stream.rings.place import RingSpace
from stream.rings.reordering import Continuity
from stream.rings.ring import RingReader, RingWriter, clock_of
from stream.session.session import Session
from stream.sockets import wire
from tests.stream import packets

RECORD = WallClock(1_000_000, 1_700_000_000_000_000_001, 1.0001, 512.5, 1e-6, 77, 3)
UNSURE = replace(RECORD, uncertainty_us=None)


def _batch(t_us: list[int], epoch: int = 0) -> EventBatch:
    ones = np.ones(len(t_us), np.uint16)
    return EventBatch(np.array(t_us, np.int64), ones, ones, ones.astype(np.uint8), t_us[-1] + 1, 5, epoch)


@pytest.mark.parametrize("record", [RECORD, UNSURE])
def test_record_comes_back_from_a_recording(record: WallClock) -> None:
    assert decode_packet(*encode_packet(record)) == record


def test_damaged_record_is_refused() -> None:
    kind, payload = encode_packet(replace(RECORD, rate=-1.0))
    with pytest.raises(ValueError, match="a second of the device takes -1"):
        decode_packet(kind, payload)
    with pytest.raises(ValueError, match="too short"):
        decode_packet(kind, payload[:-1])


def test_record_keeps_its_place_in_the_ring_and_lies_beside_it() -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    sent = [replace(RECORD, epoch=0), _batch([1_000_001, 1_000_500]), replace(UNSURE, epoch=0), _batch([1_002_000])]
    with RingWriter(name, packets.GEOMETRY, RingConfig()) as writer, RingReader(name, RingConfig()) as reader:
        assert clock_of(name) is None
        for packet in sent:
            writer.send(packet)
        read = reader.read(1.0)
        assert [type(packet) for packet in read] == [type(packet) for packet in sent]
        assert [packet for packet in read if isinstance(packet, WallClock)] == sent[::2]
        assert clock_of(name) == sent[2]
        assert reader.lost_packets == 0
    assert clock_of(name) is None
    assert RingSpace.of(name).leftovers() == []


def test_record_that_a_reader_missed_loses_no_events() -> None:
    from stream.rings.numbering import Ledger

    ledger = Ledger(1, 1000)
    sent = [_batch([10]), replace(RECORD, device_us=11, epoch=0), _batch([20])]
    parcels = [parcel for packet in sent for parcel in ledger.enter(packet, 0)]
    continuity = Continuity()
    seen = [*continuity.accept(parcels[:1], [], []), *continuity.accept(parcels[2:], [], [])]
    (gap,) = [packet for packet in seen if isinstance(packet, Gap)]
    assert gap.lost_events == 0
    assert continuity.lost_packets == 1


def test_bytes_in_the_ring_are_those_that_are_documented() -> None:
    assert "CLOCK:  int64 device_us, int64 wall_ns, double rate" in (ring_packets.__doc__ or "")
    assert ring_packets.body_bytes(RECORD) == 40


def test_stamps_become_unix_time_in_order() -> None:
    stamps = UnixStamps()
    before = _batch([5])
    assert stamps.restamped(before) is before  # nothing is known yet
    assert stamps.restamped(WallClock(0, 10**18, 1.0001)) is not None
    batch = stamps.restamped(_batch([0, 10_000, 20_000]))
    assert isinstance(batch, EventBatch)
    assert batch.t_us.tolist() == [10**15, 10**15 + 10_001, 10**15 + 20_002]
    assert batch.watermark_us >= batch.t_us[-1]
    frame = stamps.restamped(Frame(0, np.zeros((3, 4, 1), np.uint8), 10_000, 20_000))
    assert isinstance(frame, Frame)
    assert (frame.exposure_start_us, frame.exposure_end_us) == (10**15 + 10_001, 10**15 + 20_002)
    other = _batch([7], epoch=1)
    assert stamps.restamped(other) is other  # another clock, of which nothing is known


@pytest.mark.parametrize(("first_us", "known"), [(1_600_000_000_000_000, True), (5_000_000, False), (0, False)])
def test_times_that_can_only_count_from_1970_are_taken_for_it(first_us: int, known: bool) -> None:
    told = list(absolute([_batch([first_us, first_us + 5]), _batch([first_us + 9])]))
    records = [packet for packet in told if isinstance(packet, WallClock)]
    assert [record.wall_at(first_us + 9) for record in records] == [1000 * (first_us + 9)] * known
    assert len(told) == 2 + known


def test_images_carry_wall_time_however_the_packets_are_split() -> None:
    config = load_config(None, ["reconstructor.backend=passthrough", "plan.name=deblur"])
    record = WallClock(0, 10**18, 1.0001, 100.0, 1e-6)
    usual = list(packets.usual())

    def exposed(parts: list[list[object]]) -> list[tuple[int | None, float | None]]:
        session = Session(
            config, packets.INFO, open_reconstructor(config, packets.GEOMETRY), freshest=False, clock=lambda: 0
        )
        frames = [frame for part in parts for frame in session.feed(part)] + list(session.finish())  # type: ignore[arg-type]
        for frame in frames:
            header = wire.frame_header(frame)
            if frame.wall_ns is None:
                assert "wall_ns" not in header
                assert "wall_uncertainty_us" not in header
            else:
                assert header["wall_ns"] == record.wall_at(frame.shutter.mid_us)
                assert wire.frame_of(wire.unpack(wire.pack_frame(frame))).wall_ns == frame.wall_ns
        return [(frame.wall_ns, frame.wall_uncertainty_us) for frame in frames]

    together = exposed([[record, *usual]])
    assert together == exposed([[record], *([packet] for packet in usual)])
    assert all(wall_ns is not None for wall_ns, _ in together)
    assert set(exposed([usual])) == {(None, None)}
