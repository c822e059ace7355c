"""Prophesee's encodings: the compiled loops agree with a plain decoder, whatever the words and however they are fed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.prophesee.evt import PACKET_US, Encoding, EvtDecoder
from nire import compiled
from nire.errors import RecordingDamaged
from nire.types import EventBatch, Trigger
from tests.drivers.prophesee import evt_reference as reference
from tests.drivers.prophesee import evt_writer as writer

ENCODINGS: list[Encoding] = ["EVT2", "EVT21", "EVT21 legacy", "EVT3"]
EDGES = [(5100, 0, True), (5900, 6, False), (30_000, 6, True), (90_000, 1, False)]
Packets = list[EventBatch | Trigger]

KINDS3 = st.sampled_from([0x0, 0x0, 0x2, 0x2, 0x2, 0x3, 0x4, 0x5, 0x6, 0x6, 0x7, 0x8, 0xA, 0xE, 0xF])
WORDS3 = st.lists(st.builds(lambda kind, value: kind << 12 | value, KINDS3, st.integers(0, 0xFFF)), max_size=200)
KINDS2 = st.sampled_from([0x0, 0x1, 0x8, 0xA, 0xE, 0xF, 0xD])
# High parts near each other and near the end of their range, so that times meet, step back and begin again.
NEAR = st.one_of(st.integers(0, 40), st.integers(0xFFFFFD8, 0xFFFFFFF), st.integers(0, 0xFFFFFFF))
WORDS2 = st.lists(st.builds(lambda kind, value: kind << 28 | value, KINDS2, NEAR), max_size=200)
MASKS = st.integers(0, 0xFFFFFFFF)


def decode(encoding: Encoding, data: bytes, *, cuts: Sequence[int] = ()) -> Packets:
    decoder = EvtDecoder(encoding, name="stream")
    found: Packets = []
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        found.extend(decoder.feed(data[start:stop]))
    decoder.finish()
    return found


def events_of(packets: Packets) -> list[tuple[int, ...]]:
    batches = [packet for packet in packets if isinstance(packet, EventBatch)]
    return [row for b in batches for row in zip(*(c.tolist() for c in (b.t_us, b.x, b.y, b.p)), strict=True)]


def edges_of(packets: Packets) -> list[tuple[int, int, bool]]:
    return [(p.t_us, p.channel, p.rising) for p in packets if isinstance(p, Trigger)]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_was_written_is_decoded(encoding: Encoding) -> None:
    events = writer.sorted_events(3000)
    found = decode(encoding, writer.encoded(encoding, events, EDGES))
    assert events_of(found) == events
    assert edges_of(found) == EDGES


@settings(max_examples=300)
@given(WORDS3)
def test_any_words_of_evt3_give_what_the_plain_decoder_gives(words: list[int]) -> None:
    expected, found = reference.evt3(words), decode("EVT3", writer.words16(*words))
    assert (events_of(found), edges_of(found)) == (expected.events, expected.edges)


@settings(max_examples=300)
@given(WORDS2)
def test_any_words_of_evt2_give_what_the_plain_decoder_gives(words: list[int]) -> None:
    expected, found = reference.evt2(words), decode("EVT2", writer.words32(*words))
    assert (events_of(found), edges_of(found)) == (expected.events, expected.edges)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.builds(lambda k, v: k << 28 | v, KINDS2, NEAR), MASKS), max_size=100))
def test_any_words_of_evt21_give_what_the_plain_decoder_gives(words: list[tuple[int, int]]) -> None:
    expected = reference.evt21([head << 32 | mask for head, mask in words])
    for encoding, order in (("EVT21 legacy", (0, 1)), ("EVT21", (1, 0))):
        found = decode(encoding, writer.words32(*(word[i] for word in words for i in order)))  # type: ignore[arg-type]
        assert (events_of(found), edges_of(found)) == (expected.events, expected.edges)


@settings(max_examples=60)
@given(st.sampled_from(ENCODINGS), st.lists(st.integers(0, 2000), max_size=6))
def test_bytes_may_be_cut_anywhere(encoding: Encoding, cuts: list[int]) -> None:
    data = writer.encoded(encoding, writer.sorted_events(600), EDGES[:2])
    whole, pieces = decode(encoding, data), decode(encoding, data, cuts=sorted(cuts))
    assert (events_of(pieces), edges_of(pieces)) == (events_of(whole), edges_of(whole))


@settings(max_examples=100)
@given(WORDS3)
def test_promises_hold_for_any_words_but_where_the_clock_begins_again(words: list[int]) -> None:
    watermark_us = -1
    for packet in decode("EVT3", writer.words16(*words)):
        if isinstance(packet, EventBatch):
            assert (np.diff(packet.t_us) >= 0).all()
            assert not len(packet) or packet.t_us[-1] <= packet.watermark_us
            assert not len(packet) or packet.t_us[0] >= watermark_us or packet.t_us[0] < watermark_us - 1000
            watermark_us = packet.watermark_us


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_full_outputs_are_emptied_and_filled_again(encoding: Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.prophesee.evt._MOST_EVENTS", 40)
    monkeypatch.setattr("drivers.prophesee.evt._MOST_CUTS", 1)
    monkeypatch.setattr("drivers.prophesee.evt._MOST_TRIGGERS", 1)
    events = writer.sorted_events(1000, step_us=200)
    found = decode(encoding, writer.encoded(encoding, events, EDGES))
    assert (events_of(found), edges_of(found)) == (events, EDGES)


def test_time_of_evt3_goes_on_where_its_24_bits_begin_again() -> None:
    times = [100, (1 << 24) - 1, (1 << 24) + 5, (1 << 24) + 12_000_000, (2 << 24) + 70_000]
    words = [0x0001]
    for t in times:
        words += [0x8000 | t >> 12 & 0xFFF, 0x6000 | t & 0xFFF, 0x2003]
    assert [t for t, *_ in events_of(decode("EVT3", writer.words16(*words)))] == times


@pytest.mark.parametrize("encoding", ["EVT2", "EVT21"])
def test_time_of_evt2_goes_on_where_its_34_bits_begin_again(encoding: Encoding) -> None:
    events = [(t, 3, 4, 1) for t in (7, (1 << 34) - 9, (1 << 34) + 5)]
    assert events_of(decode(encoding, writer.encoded(encoding, events))) == events


def test_low_part_that_steps_back_is_held_at_the_newest_time() -> None:
    words = writer.words16(0x8001, 0x0001, 0x6010, 0x2003, 0x6008, 0x2004, 0x6011, 0x2005)
    assert [t for t, *_ in events_of(decode("EVT3", words))] == [4096 + 16, 4096 + 16, 4096 + 17]


def test_old_low_part_is_not_joined_to_a_new_high_part() -> None:
    words = writer.words16(0x8001, 0x0001, 0x6FFF, 0x2003, 0x8002, 0x2004, 0x6001, 0x2005)
    assert [t for t, *_ in events_of(decode("EVT3", words))] == [8191, 8192, 8193]


def test_clock_that_began_again_ends_a_batch_and_is_left_to_the_cleaning() -> None:
    words = writer.words16(0x8010, 0x0001, 0x6000, 0x2003, 0x8001, 0x6000, 0x2004)
    batches = [b for b in decode("EVT3", words) if isinstance(b, EventBatch)]
    assert [(b.t_us.tolist(), b.watermark_us) for b in batches] == [([0x10000], 0x10000), ([0x1000], 0x1000)]


def test_events_before_the_first_time_row_or_base_are_left_out() -> None:
    words = writer.words16(0x2001, 0x4FFF, 0x0005, 0x2002, 0x8001, 0x2003, 0x4001, 0x3010, 0x4001)
    assert events_of(decode("EVT3", words)) == [(4096, 3, 5, 0), (4096, 16, 5, 0)]
    assert events_of(decode("EVT2", writer.words32(0x10000801, 0x80000001, 0x10000801))) == [(64, 1, 1, 1)]


def test_events_after_a_row_of_another_kind_are_no_changes_of_light() -> None:
    words = writer.words16(0x8001, 0x0005, 0x2003, 0x1005, 0x2004, 0x0006, 0x2005)
    assert [(x, y) for _, x, y, _ in events_of(decode("EVT3", words))] == [(3, 5), (5, 6)]


def test_endless_vectors_do_not_come_round_to_the_first_column() -> None:
    words = writer.words16(0x8001, 0x0005, 0x3000, *[0x4001] * 9000)
    found = events_of(decode("EVT3", words))
    assert len(found) == 9000
    assert sum(x < 2048 for _, x, _, _ in found) == -(-2048 // 12)


@pytest.mark.parametrize("encoding", ["EVT2", "EVT3"])
def test_silence_gives_heartbeats(encoding: Encoding) -> None:
    if encoding == "EVT3":
        data = writer.words16(0x8001, 0x0001, 0x2001, *(0x8000 | high for high in range(2, 200)))
    else:
        data = writer.words32(0x80000001, 0x10000801, *(0x80000000 | high for high in range(2, 12_000)))
    batches = [b for b in decode(encoding, data) if isinstance(b, EventBatch)]
    assert sum(map(len, batches)) == 1
    marks = [b.watermark_us for b in batches]
    assert len(marks) > 50
    assert max(np.diff(marks)) <= 5 * PACKET_US + 4096


def test_many_events_are_cut_at_packets_and_few_at_five_of_them() -> None:
    many = decode("EVT2", writer.encoded("EVT2", [(t, 1, 1, 1) for t in range(20_000) for _ in range(2)]))
    few = decode("EVT2", writer.encoded("EVT2", [(t, 1, 1, 1) for t in range(0, 20_000, 100)]))
    first = [[int(b.t_us[0]) for b in packets if isinstance(b, EventBatch)] for packets in (many, few)]
    assert first == [list(range(0, 20_000, 2000)), [0, 10_000]]


def test_edges_come_after_the_batch_in_which_they_lie() -> None:
    newest_us = 0
    for packet in decode("EVT3", writer.encoded("EVT3", writer.sorted_events(9000), EDGES)):
        if isinstance(packet, Trigger):
            assert packet.t_us <= newest_us
        else:
            newest_us = packet.watermark_us
    assert newest_us >= EDGES[-1][0]


@pytest.mark.parametrize(("encoding", "strange"), [("EVT2", 0x40), ("EVT21", 0x40), ("EVT3", 0xB0)])
def test_words_that_mean_nothing_are_damage_where_they_lie_together(encoding: Encoding, strange: int) -> None:
    events = writer.sorted_events(2000)
    good = writer.encoded(encoding, events)
    decoder = EvtDecoder(encoding, name="file", first_byte=1000)
    found: Packets = []
    found.extend(decoder.feed(good))
    with pytest.raises(RecordingDamaged, match="file is damaged from byte") as damage:
        found.extend(decoder.feed(bytes([strange] * 800) + good))
    assert damage.value.position == 1000 + len(good)
    assert events_of(found) == events


def test_everything_before_damage_is_delivered_also_within_one_call() -> None:
    events = writer.sorted_events(2000)
    good = writer.encoded("EVT3", events, EDGES[:2])
    decoder = EvtDecoder("EVT3", name="file")
    found: Packets = []
    # Among the damage are words that look like times, edges and events.
    bad = writer.words16(*[0x9000, 0x8FFF, 0xA001, 0x0001, 0x2001] * 9)
    with pytest.raises(RecordingDamaged):
        found.extend(decoder.feed(good + bad))
    assert events_of(found) == events
    assert edges_of(found) == EDGES[:2]


def test_rare_words_that_mean_nothing_are_skipped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    events = writer.sorted_events(400)
    data = writer.encoded("EVT3", events)
    spaced = b"".join(data[i : i + 200] + writer.words16(0xB123) for i in range(0, len(data), 200))
    with caplog.at_level(logging.WARNING):
        assert events_of(decode("EVT3", spaced)) == events
    assert f"{len(spaced) // 202 + (len(spaced) % 202 > 0)} words of no known type were skipped" in caplog.text


@pytest.mark.parametrize(("encoding", "cut"), [("EVT2", 3), ("EVT21", 1), ("EVT3", 1)])
def test_end_inside_a_word_is_damage_after_all_before_it(encoding: Encoding, cut: int) -> None:
    events = writer.sorted_events(100)
    data = writer.encoded(encoding, events)
    decoder = EvtDecoder(encoding, name="file", first_byte=50)
    found = list(decoder.feed(data + data[:cut]))
    assert events_of(found) == events
    with pytest.raises(RecordingDamaged, match="cut off") as damage:
        decoder.finish()
    assert damage.value.position == 50 + len(data)


def test_events_that_the_sensor_left_out_are_said(caplog: pytest.LogCaptureFixture) -> None:
    counts = [0xE014, 0xF3E8, 0xF000, 0x7000, 0xE016, 0xF2EE, 0xF000, 0x7000]  # 1000 in, 750 out
    with caplog.at_level(logging.WARNING):
        decode("EVT3", writer.words16(0x8001, *counts))
    assert "rate controller left out 250 events (25.0 %)" in caplog.text


def test_function_is_compiled_anew_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    njit: Callable[..., object] = numba.njit

    def without_cache(**options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(compiled.numba, "njit", without_cache)

    def double(value: int) -> int:
        return 2 * value

    assert compiled.compiled(double)(21) == 42
