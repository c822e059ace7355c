"""Replay keeps the recording's own time, and a loop goes on without a seam in clock or count."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from drivers.packets.playback import Place, looped, paced, play
from nire.errors import ConfigError
from nire.types import EventBatch, Frame, Gap, SourcePacket, Trigger
from tests.drivers.packets.made import Given, column_digests, events, frame

PACKETS: list[SourcePacket] = [
    events([1_000, 5_500, 30_000]),
    frame(3, 2_000, 22_000),
    Trigger(40_000, 0, True),
    Gap(41_000, 50_000, "lost"),
    events([50_000, 61_000], watermark_us=61_000),
    frame(4, 42_000, 60_000),
]


def test_replay_delivers_nothing_before_it_is_due() -> None:
    began_ns = time.monotonic_ns()
    for packet in paced(Given(PACKETS), 2.0):
        if isinstance(packet, EventBatch):
            assert packet.received_ns - began_ns >= (packet.watermark_us - 5_500) / 2 * 1000 - 1e6


def test_replay_changes_no_event_and_no_frame() -> None:
    assert column_digests(paced(Given(PACKETS), 10.0)) == column_digests(PACKETS)
    assert column_digests(paced(Given(PACKETS), math.inf)) == column_digests(PACKETS)


def test_replay_cuts_long_batches_into_pieces_of_2_ms() -> None:
    batches = [p for p in paced(Given(PACKETS), 50.0) if isinstance(p, EventBatch) and len(p)]
    assert [batch.t_us.tolist() for batch in batches] == [[1_000], [5_500], [30_000], [50_000], [61_000]]
    assert [batch.watermark_us for batch in batches] == [5_500, 30_000, 30_000, 61_000, 61_000]


def test_replay_as_fast_as_possible_does_not_wait_and_is_not_live(clock: Any) -> None:
    source = paced(Given([events([0]), events([3_600_000_000])]), math.inf)
    assert not source.info.live
    assert len(list(source)) == 2
    assert clock.waits_s == []


@pytest.mark.usefixtures("clock")
def test_replay_stays_responsive_in_a_long_silence() -> None:
    packets = list(paced(Given([events([0]), events([200_000])]), 1.0))
    heartbeats = [p for p in packets if isinstance(p, EventBatch) and not len(p)]
    assert len(heartbeats) == 3
    assert {p.watermark_us for p in heartbeats} == {0}


def test_replay_does_not_hang_when_the_device_clock_begins_again() -> None:
    packets = [events([10**12]), events([5_000], epoch=1), events([8_000], epoch=1)]
    assert len(list(paced(Given(packets), 1.0))) == 3


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_speed_that_is_not_positive_is_refused(speed: float) -> None:
    with pytest.raises(ConfigError, match="expected a positive number"):
        paced(Given([]), speed)


def test_loop_continues_clock_and_frame_count_without_a_gap() -> None:
    packets = list(looped(lambda: Given(PACKETS), 3))
    watermarks = [p.watermark_us for p in packets if isinstance(p, EventBatch)]
    assert watermarks == sorted(watermarks)
    frames = [p for p in packets if isinstance(p, Frame)]
    assert [f.index for f in frames] == [3, 4, 5, 6, 7, 8]
    assert [f.exposure_start_us for f in frames] == [2_000, 42_000, 62_000, 102_000, 122_000, 162_000]
    assert sum(isinstance(p, Gap) for p in packets) == 3  # the recording's own
    assert [p.t_us for p in packets if isinstance(p, Trigger)] == [40_000, 100_000, 160_000]


def test_loop_for_ever_is_taken_as_far_as_wanted() -> None:
    stream = iter(looped(lambda: Given(PACKETS), 0))
    taken = [next(stream) for _ in range(1000)]
    assert len(taken) == 1000


def test_loop_over_an_empty_recording_ends() -> None:
    assert list(looped(lambda: Given([]), 0)) == []


def test_negative_number_of_loops_is_refused() -> None:
    with pytest.raises(ConfigError, match="-1 loops"):
        looped(lambda: Given([]), -1)


def test_edges_cost_no_wait_each_and_keep_their_place(clock: Any) -> None:
    edges = [Trigger(1_000 + 100 * k, 0, True) for k in range(1, 10)]
    packets = list(paced(Given([events([1_000]), *edges, events([2_000]), events([3_000])]), 1.0))
    assert [packet for packet in packets if isinstance(packet, Trigger)] == edges
    assert [isinstance(packet, Trigger) for packet in packets] == [False, *[True] * 9, False, False]
    assert clock.waits_s == pytest.approx([0.001, 0.001])


# Played otherwise

FRAMES: list[SourcePacket] = [
    packet
    for index in range(10)
    for packet in (
        events([index * 40_000 + 5_000, index * 40_000 + 15_000]),
        frame(index, index * 40_000, index * 40_000 + 20_000),
    )
]


@pytest.mark.usefixtures("clock")
def test_held_replay_stands_still_and_gives_its_iterator_the_word() -> None:
    source = paced(Given(FRAMES), 1.0)
    packets = iter(source)
    while not isinstance(next(packets), Frame):
        pass
    play(source, {"held": True})
    held = [next(packets) for _ in range(50)]
    assert all(isinstance(packet, EventBatch) and not len(packet) for packet in held)
    assert source.place.held
    play(source, {"held": False})
    assert any(isinstance(next(packets), Frame) for _ in range(10))


@pytest.mark.usefixtures("clock")
def test_recording_without_events_can_be_held_before_its_first_frame() -> None:
    source = paced(Given([frame(0, 10_000, 30_000), frame(1, 50_000, 70_000)]), 1.0)
    packets = iter(source)
    assert isinstance(next(packets), Frame)
    play(source, {"held": True})
    assert not isinstance(next(packets), Frame)


@pytest.mark.usefixtures("clock")
def test_step_goes_on_to_the_next_frame_and_holds() -> None:
    source = paced(Given(FRAMES), 1.0)
    packets = iter(source)
    next(packets)
    for index in (0, 1, 2):
        play(source, {"step": True})
        seen = next(packet for packet in packets if isinstance(packet, Frame))
        assert seen.index == index
        after = next(packets)
        assert isinstance(after, EventBatch)
        assert not len(after)
        assert source.place.held


def test_speed_changes_what_is_waited_for_the_rest(clock: Any) -> None:
    source = paced(Given(FRAMES), 1.0)
    packets = iter(source)
    next(packets)
    play(source, {"speed": 100.0})
    before = len(clock.waits_s)
    list(packets)
    assert sum(clock.waits_s[before:]) < 0.02
    assert source.place.speed == 100.0


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("at_us", [0, 100_000, 123_456])
def test_replay_that_was_moved_goes_on_there(at_us: int) -> None:
    source = paced(Given(FRAMES), 1.0)
    packets = iter(source)
    for _ in range(5):
        next(packets)
    assert play(source, {"at_us": at_us})
    seen = [packet for packet in source if isinstance(packet, Frame) or len(packet)]  # type: ignore[arg-type]
    times = [int(t) for packet in seen if isinstance(packet, EventBatch) for t in packet.t_us]
    assert times == [
        t for index in range(10) for t in (index * 40_000 + 5_000, index * 40_000 + 15_000) if t >= at_us + 5_000
    ]
    assert [packet.index for packet in seen if isinstance(packet, Frame)] == [
        index for index in range(10) if index * 40_000 + 20_000 >= at_us + 5_000
    ]


@pytest.mark.usefixtures("clock")
def test_place_is_that_of_the_present_round() -> None:
    source = paced(looped(lambda: Given(FRAMES), 3), 1.0)
    places = [source.place.at_us for packet in source if isinstance(packet, Frame)]
    assert places[:10] == places[10:20] == places[20:]


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"speed": 0}, "expected a factor"),
        ({"speed": "fast"}, "expected a number"),
        ({"held": 1}, "expected true or false"),
        ({"at_us": -1}, "the recording goes from 0"),
        ({"louder": True}, "knows no 'louder'"),
    ],
)
def test_wish_that_no_replay_can_carry_out_changes_nothing(wishes: dict[str, Any], words: str) -> None:
    source = paced(Given(FRAMES), 1.0)
    with pytest.raises(ConfigError, match=words):
        play(source, {"speed": 3.0, **wishes} if "speed" not in wishes else wishes)
    assert source.place == Place(0, 0, 1.0, held=False)


@pytest.mark.parametrize("source", [Given([]), paced(Given([]), math.inf)])
def test_what_keeps_no_time_of_its_own_cannot_be_played_otherwise(source: Any) -> None:
    with pytest.raises(ConfigError, match="only a replay that keeps time"):
        play(source, {"speed": 2.0})
