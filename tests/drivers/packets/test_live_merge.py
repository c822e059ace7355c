"""One watermark from several queues: order of frames, silence, lateness, clocks that begin again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from drivers.packets.cleaning import cleaned
from drivers.packets.live_merge import LiveMerge
from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket
from tests.drivers.packets.made import Given, frame


def _columns(*t_us: int) -> tuple[Any, ...]:
    n = len(t_us)
    return np.array(t_us, np.int64), np.ones(n, np.uint16), np.ones(n, np.uint16), np.ones(n, np.uint8)


def _frame(merge: LiveMerge, image: Frame) -> Iterator[SourcePacket]:
    yield from merge.frame(image)
    yield from merge.clock(image.exposure_end_us, 0)


def _kinds(packets: Iterable[SourcePacket]) -> list[str]:
    return [type(packet).__name__ for packet in packets]


def test_frame_waits_for_the_events_of_its_exposure() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=0)
    assert _kinds(merge.events(*_columns(100, 200), 0)) == ["EventBatch"]
    assert _kinds(_frame(merge, frame(0, 150, 5000))) == ["EventBatch"]  # its stamp moves the watermark, not enough
    assert _kinds(merge.events(*_columns(4500, 4999), 0)) == ["EventBatch"]
    assert _kinds(merge.events(*_columns(5000), 0)) == ["EventBatch", "Frame"]


def test_other_stamps_move_the_watermark_where_no_event_does() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=0)
    list(merge.events(*_columns(100), 0))
    list(_frame(merge, frame(0, 150, 5000)))
    [beat, due] = merge.clock(6000, 7)
    assert isinstance(beat, EventBatch)
    assert (len(beat), beat.watermark_us, beat.received_ns) == (0, 5000, 7)
    assert isinstance(due, Frame)
    assert not list(merge.clock(5500, 8))
    [exact] = merge.clock(6100, 9, exact=True)
    assert isinstance(exact, EventBatch)
    assert exact.watermark_us == 6100


def test_silence_repeats_the_promise_and_promises_nothing_before_the_first_stamp() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=0)
    nothing = merge.idle(0)
    assert isinstance(nothing, ImuBatch)
    assert not nothing.t_us.size
    list(merge.events(*_columns(100, 900), 0))
    beat = merge.idle(5)
    assert isinstance(beat, EventBatch)
    assert (beat.watermark_us, beat.received_ns, len(beat)) == (900, 5, 0)


def test_late_events_become_a_gap() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=0)
    list(merge.events(*_columns(100), 0))
    list(merge.clock(20_000, 0))  # promises 19000
    gap, rest = merge.events(*_columns(15_000, 16_000, 19_500), 0)
    assert isinstance(gap, Gap)
    assert (gap.t0_us, gap.t1_us) == (15_000, 19_000)
    assert isinstance(rest, EventBatch)
    assert rest.t_us.tolist() == [19_500]
    assert merge.late_events == 2


def test_small_step_back_is_left_to_the_cleaning() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=0)
    list(merge.events(*_columns(5000), 0))
    [batch] = merge.events(*_columns(4990, 5010), 0)
    assert isinstance(batch, EventBatch)
    assert batch.t_us.tolist() == [4990, 5010]


def test_clock_that_began_again_lets_the_old_frames_out_first() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=0)
    packets = list(merge.events(*_columns(90_000_000), 0))
    packets += _frame(merge, frame(4, 90_000_000, 90_010_000))
    packets += _frame(merge, frame(5, 1000, 2000))  # of the new clock, ahead of its events
    assert _kinds(packets) == ["EventBatch", "EventBatch"]
    packets += merge.events(*_columns(500, 700), 0)
    packets += merge.events(*_columns(2500), 0)
    assert _kinds(packets) == ["EventBatch"] * 2 + ["Frame"] + ["EventBatch"] * 2 + ["Frame"]
    clean = list(cleaned(Given(packets)))
    assert [(p.index, p.epoch) for p in clean if isinstance(p, Frame)] == [(4, 0), (5, 1)]
    assert sum(isinstance(p, Gap) for p in clean) == 1


def test_frames_alone_tell_that_the_clock_began_again_when_events_stay_away() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=0)
    list(merge.events(*_columns(90_000_000), 0))
    list(_frame(merge, frame(0, 89_990_000, 90_000_000)))
    out = [packet for n in range(60) for packet in _frame(merge, frame(n + 1, 20_000 * n, 20_000 * n + 9000))]
    assert [p.index for p in out if isinstance(p, Frame)][:40] == list(range(1, 41))


def test_one_stamp_of_an_old_clock_does_not_carry_the_promise_away() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=0)
    list(merge.events(*_columns(90_000_000), 0))
    list(merge.events(*_columns(1000), 0))
    assert not list(merge.clock(90_010_000, 0))
    [batch] = merge.events(*_columns(3000), 0)
    assert isinstance(batch, EventBatch)
    assert batch.watermark_us == 3000
    assert not list(merge.clock(50_000_000, 0))
    assert list(merge.clock(50_010_000, 0))  # a second one agrees: the camera was silent for long


def test_gap_goes_from_the_promise_to_the_time_it_is_told() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=0)
    assert not list(merge.gap(5000, "nothing was promised yet", 0))
    list(merge.events(*_columns(1000), 0))
    [gap] = merge.gap(5000, "overflow", 3)
    assert gap == Gap(1000, 5000, "overflow", 3)


def test_other_stamps_count_only_when_events_are_silent() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=100)
    list(merge.events(*_columns(100), 0))
    assert not list(merge.clock(90_000, 99_000_000))
    [batch] = merge.events(*_columns(5000), 99_500_000)  # it lagged, and is not late
    assert isinstance(batch, EventBatch)
    assert not list(merge.clock(190_000, 199_000_000))
    [beat] = merge.clock(200_000, 200_000_000)
    assert isinstance(beat, EventBatch)
    assert beat.watermark_us == 199_000


def test_frame_of_the_old_clock_that_comes_after_the_new_events_is_dropped() -> None:
    merge = LiveMerge(slack_us=1000, silence_ms=0)
    list(merge.events(*_columns(90_000_000), 0))
    list(_frame(merge, frame(0, 89_000_000, 89_010_000)))
    list(merge.events(*_columns(1000, 2000), 0))
    assert not list(_frame(merge, frame(1, 89_990_000, 89_999_000)))
    packets = [*_frame(merge, frame(2, 1000, 1500)), *merge.events(*_columns(9000), 0)]
    assert [packet.index for packet in packets if isinstance(packet, Frame)] == [2]
    assert merge.stale_frames == 1


def test_frames_that_waited_beside_the_events_of_two_clocks_find_their_own() -> None:
    merge = LiveMerge(slack_us=1000)
    packets: list[SourcePacket] = list(merge.events(*_columns(500_000), 0))
    for image in (frame(0, 480_000, 500_500), frame(1, 490_000, 510_500), frame(2, 1000, 1500)):
        packets += merge.frame(image)
    for t_us in (501_000, 511_000, 900, 2000):
        packets += merge.events(*_columns(t_us), 0)
    order = [packet.index if isinstance(packet, Frame) else int(packet.t_us[0]) for packet in packets]  # type: ignore[union-attr]
    assert order == [500_000, 501_000, 0, 511_000, 1, 900, 2000, 2]
