"""Rings by either carrier: order, holes, restarts, two writers, and nothing left behind."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.source import SourceInfo
from nire.errors import RingError
from nire.types import EventBatch, Frame, Gap, Geometry, Packet
from stream.blocks import Blocks
from stream.config_sections import RingConfig
from stream.rings import packets
from stream.rings.numbering import Ledger
from stream.rings.packets import Kind
from stream.rings.place import RingSpace
from stream.rings.recut import Recutter
from stream.rings.reordering import Continuity, Mark
from stream.rings.ring import RingReader, RingWriter, event_depth, events_per_packet, sweep

GEOMETRY = Geometry(16, 12)
DEPTH = event_depth(RingConfig(seconds=0.05, packet_us=2000))
CARRIERS = ["iceoryx2", "seqlock"]


@pytest.fixture(params=CARRIERS)
def small(request: pytest.FixtureRequest) -> RingConfig:
    if request.param == "iceoryx2":
        pytest.importorskip("iceoryx2")
    return RingConfig(seconds=0.05, packet_us=2000, peak_rate_meps=0.5, carrier=request.param)


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    assert sweep(name), "a process of the test still holds the rings"
    assert RingSpace.of(name).leftovers() == []


def batch(start_us: int, count: int, *, span_us: int = 2000, epoch: int = 0) -> EventBatch:
    t_us = start_us + np.arange(count, dtype=np.int64) * span_us // max(count, 1)
    x = (t_us % GEOMETRY.width).astype(np.uint16)
    y = (t_us % GEOMETRY.height).astype(np.uint16)
    return EventBatch(t_us, x, y, (t_us % 2).astype(np.uint8), start_us + span_us, 7, epoch)


def frame(index: int, start_us: int = 0) -> Frame:
    pixels = np.full((GEOMETRY.height, GEOMETRY.width, 1), index % 256, np.uint8)
    return Frame(index, pixels, start_us, start_us + 500, 1.5, "srgb", 9, 0, exposure_known=False)


def lost_events(got: list[Packet]) -> int:
    return sum(packet.lost_events for packet in got if isinstance(packet, Gap))


def same(a: Packet, b: Packet) -> bool:
    if isinstance(a, EventBatch) and isinstance(b, EventBatch):
        columns = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("t_us", "x", "y", "p"))
        return columns and (a.watermark_us, a.epoch) == (b.watermark_us, b.epoch)
    if isinstance(a, Frame) and isinstance(b, Frame):
        fields = (
            "index",
            "exposure_start_us",
            "exposure_end_us",
            "row_delay_us",
            "transfer",
            "exposure_known",
            "epoch",
        )
        return np.array_equal(a.pixels, b.pixels) and all(getattr(a, n) == getattr(b, n) for n in fields)
    return isinstance(a, Gap) and isinstance(b, Gap) and (a.t0_us, a.t1_us, a.reason) == (b.t0_us, b.t1_us, b.reason)


def test_packets_of_all_kinds_arrive_unchanged_and_in_order(name: str, small: RingConfig) -> None:
    sent: list[Packet] = [batch(0, 50), frame(0), Gap(2000, 3000, "überlauf"), EventBatch.empty(4000), frame(1, 3000)]
    info = SourceInfo("a camera", GEOMETRY, has_frames=False, live=True, time_offset_us=-3.5)
    with RingWriter(name, GEOMETRY, small, info=info) as writer, RingReader(name, small) as reader:
        for packet in sent:
            writer.send(packet)
        got = reader.read(1.0)
        assert reader.info == info
    assert len(got) == len(sent)
    assert all(same(a, b) for a, b in zip(sent, got, strict=True))
    assert reader.lost_packets == 0


def test_batch_beyond_the_largest_packet_is_split_and_stays_whole(name: str, small: RingConfig) -> None:
    whole = batch(0, 3 * events_per_packet(small) + 5)
    with RingWriter(name, GEOMETRY, small) as writer, RingReader(name, small) as reader:
        writer.send(whole)
        got = [packet for packet in reader.read(1.0) if isinstance(packet, EventBatch)]
    assert len(got) == 4
    assert np.array_equal(np.concatenate([part.t_us for part in got]), whole.t_us)
    assert all(int(after.t_us[0]) >= before.watermark_us for before, after in itertools.pairwise(got))
    assert got[-1].watermark_us == whole.watermark_us


def test_reader_that_is_overtaken_continues_at_the_oldest_kept_packet(name: str, small: RingConfig) -> None:
    total = 3 * DEPTH
    with RingWriter(name, GEOMETRY, small) as writer, RingReader(name, small) as reader:
        writer.send(batch(0, 10))
        reader.read(1.0)
        for k in range(1, total):
            writer.send(batch(2000 * k, k))
        got = reader.read(1.0)
        lost = list(range(1, total - len(got) + 1))
        assert isinstance(got[0], Gap)
        assert (got[0].t0_us, got[0].t1_us) == (2000, 2000 * (lost[-1] + 1))
        assert lost_events(got) == sum(lost)
        assert reader.lost_packets == len(lost)
        assert isinstance(got[-1], EventBatch)
        assert got[-1].t_us[0] == 2000 * (total - 1)


def test_new_producer_is_a_gap_and_a_new_epoch(name: str, small: RingConfig) -> None:
    with RingWriter(name, GEOMETRY, small) as writer:
        reader = RingReader(name, small)
        writer.send(batch(5000, 3))
        assert len(reader.read(1.0)) == 1
    with RingWriter(name, Geometry(20, 10), small) as writer:
        writer.send(batch(1000, 4))
        gap, after = reader.read(1.0)
    assert isinstance(gap, Gap)
    assert "restarted" in gap.reason
    assert gap.epoch == after.epoch == 1
    assert reader.geometry == Geometry(20, 10)
    reader.close()


def test_end_of_source_is_seen_after_all_that_was_before(name: str, small: RingConfig) -> None:
    with RingWriter(name, GEOMETRY, small) as writer, RingReader(name, small) as reader:
        writer.send(batch(0, 3))
        writer.finish()
        assert len(reader.read(1.0)) == 1
        assert reader.ended
        assert reader.read(0.0) == []


def test_second_writer_is_refused_and_told_what_to_do(name: str, small: RingConfig) -> None:
    with RingWriter(name, GEOMETRY, small), pytest.raises(RingError, match=rf"{name}.*source.name"):
        RingWriter(name, GEOMETRY, small)


def test_reader_without_a_producer_says_so(name: str, small: RingConfig) -> None:
    with pytest.raises(RingError, match="no producer writes the rings"):
        RingReader(name, small, wait_s=0.05)


def test_process_with_other_ring_settings_is_told_so(name: str, small: RingConfig) -> None:
    with RingWriter(name, GEOMETRY, small), pytest.raises(RingError, match=r"same \[ring\] section"):
        RingReader(name, small.model_copy(update={"seconds": 5.0}), wait_s=0.05)


def test_frame_larger_than_the_geometry_is_refused(name: str, small: RingConfig) -> None:
    with RingWriter(name, Geometry(4, 4), small) as writer, pytest.raises(RingError, match="does not fit"):
        writer.send(frame(0))


def test_read_packets_stay_valid_when_the_ring_has_moved_on(name: str, small: RingConfig) -> None:
    with RingWriter(name, GEOMETRY, small) as writer, RingReader(name, small) as reader:
        writer.send(batch(0, 100))
        (kept,) = reader.read(1.0)
        before = kept.t_us.copy()
        for k in range(1, 4 * DEPTH):
            writer.send(batch(2000 * k, 100))
            reader.read(0.0)
    assert np.array_equal(kept.t_us, before)


def test_successor_of_a_killed_reader_counts_what_was_missed(name: str, small: RingConfig) -> None:
    with RingWriter(name, GEOMETRY, small) as writer:
        with RingReader(name, small) as first:
            writer.send(batch(0, 10))
            first.read(1.0)
        writer.send(batch(2000, 11))
        writer.send(frame(0))
        with RingReader(name, small, resume=first.continuity.mark) as second:
            writer.send(batch(4000, 12))
            gap, after = second.read(1.0)
    assert (gap.t0_us, gap.t1_us) == (2000, 4000)
    assert len(after) == 12
    assert (gap.lost_events, second.lost_packets) == (11, 1)


def test_frames_that_a_killed_reader_missed_are_told_by_the_next_one(name: str, small: RingConfig) -> None:
    with RingWriter(name, GEOMETRY, small) as writer:
        with RingReader(name, small) as first:
            writer.send(frame(0))
            first.read(1.0)
        writer.send(frame(1))
        writer.send(frame(2))
        with RingReader(name, small, resume=first.continuity.mark) as second:
            writer.send(frame(3))
            writer.send(frame(4))
            got = second.read(1.0)
    assert [(packet.index, packet.lost_before) for packet in got if isinstance(packet, Frame)] == [(3, 2), (4, 0)]


def test_packets_of_a_producer_after_its_successor_are_lost_and_told() -> None:
    reader = Continuity()
    old, new = Ledger(100, 1000), Ledger(200, 1000)
    late = [*old.enter(batch(0, 7), 1), *old.enter(frame(0), 1)]
    reader.accept(new.enter(batch(0, 1), 1), [], [])
    (gap,) = reader.accept(late[:1], late[1:], [])
    assert isinstance(gap, Gap)
    assert (gap.t0_us, gap.t1_us, gap.lost_events) == (2000, 2000, 7)
    (after,) = reader.accept([], new.enter(frame(5), 1), [])
    assert isinstance(after, Frame)
    assert after.lost_before == 1


def test_damaged_packet_is_an_error_that_names_both_versions() -> None:
    with pytest.raises(RingError, match="another program or version"):
        packets.read(np.zeros(200, np.uint8), Blocks())


# The pure parts, on drawn inputs


@st.composite
def parcels(draw: st.DrawFn) -> list[packets.Header]:
    ledger = Ledger(100, 1000)
    result = []
    t_us = 0
    for _ in range(draw(st.integers(1, 30))):
        if draw(st.booleans()):
            result += ledger.enter(frame(ledger.frames, t_us), 1)
        else:
            result += ledger.enter(batch(t_us, draw(st.integers(0, 5))), 1)
            t_us += 2000
    return result


@settings(max_examples=60)
@given(parcels(), st.data())
def test_any_interleaving_of_drains_gives_the_order_of_the_producer(sent: list, data: st.DataObject) -> None:
    """Drains see what was sent before them: cut the order at three growing points, again and again."""
    reader, got = Continuity(), []
    at = {"events": 0, "frames": 0}

    def drain(which: str, until: int) -> list:
        part = [p for p in sent[at[which] : until] if (p[0].kind == Kind.FRAME) == (which == "frames")]
        at[which] = max(at[which], until)
        return part

    until = 0
    while min(at.values()) < len(sent) or reader.holds_back:
        until = data.draw(st.integers(until, len(sent)))
        first = drain("events", until)
        until = data.draw(st.integers(until, len(sent)))
        frames = drain("frames", until)
        until = data.draw(st.integers(until, len(sent))) if until < len(sent) else until
        got += reader.accept(first, frames, drain("events", until) if frames else [])
        until = min(len(sent), until + 1)
    assert len(got) == len(sent)
    assert all(same(a, b[1]) for a, b in zip(got, sent, strict=True))
    assert reader.lost_packets == 0


@settings(max_examples=60)
@given(parcels(), st.data())
def test_what_is_missing_is_counted_exactly(sent: list, data: st.DataObject) -> None:
    keep = data.draw(st.lists(st.booleans(), min_size=len(sent), max_size=len(sent)))
    reader = Continuity(Mark(life=100))
    first, last = Ledger(100, 1000), sent[-1][0]
    assert first.serial == 0
    kept = [p for p, k in zip(sent, keep, strict=True) if k] + [_end_after(last, sent)]
    got = reader.accept([p for p in kept if p[0].kind != Kind.FRAME], [p for p in kept if p[0].kind == Kind.FRAME], [])
    lost = [p for p, k in zip(sent, keep, strict=True) if not k and p[0].kind != Kind.FRAME]
    assert lost_events(got) == sum(len(p[1]) for p in lost)
    assert reader.ended
    spans = [(g.t0_us, g.t1_us) for g in got if isinstance(g, Gap)]
    for _, missing in lost:
        assert any(t0 <= missing.watermark_us - 2000 and missing.watermark_us <= t1 for t0, t1 in spans)


def _end_after(last: packets.Header, sent: list) -> tuple:
    """The end of the source, as the ledger that made `sent` would enter it."""
    ledger = Ledger(100, 1000)
    for _, packet in sent:
        list(ledger.enter(packet, 1))
    assert ledger.serial == last.serial + 1
    return ledger.end(1)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 20_000), max_size=40), st.lists(st.integers(1, 10), max_size=10), st.integers(100, 5000))
def test_recut_packets_hold_the_same_events_and_keep_their_promises(
    times: list[int], sizes: list[int], packet_us: int
) -> None:
    t_us = np.sort(np.array(times, np.int64))
    zero = np.zeros(len(t_us), np.uint16)
    recutter = Recutter(packet_us)
    out: list[Packet] = []
    start = 0
    for size in [*sizes, 1000]:
        part = slice(start, start + size)
        end = int(t_us[start + size]) if start + size < len(t_us) else 20_000
        out += recutter.feed(EventBatch(t_us[part], zero[part], zero[part], zero[part].astype(np.uint8), end))
        start += size
    out += recutter.flush()
    got = [packet for packet in out if isinstance(packet, EventBatch)]
    assert np.array_equal(np.concatenate([packet.t_us for packet in got]) if got else t_us[:0], t_us)
    for packet in got:
        assert len(packet) == 0 or packet.t_us[0] // packet_us == packet.t_us[-1] // packet_us
    for before, after in itertools.pairwise(got):
        assert before.watermark_us <= after.watermark_us
        assert len(after) == 0 or after.t_us[0] >= before.watermark_us
