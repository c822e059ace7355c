"""What sources get wrong is put right once, counted, and said."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from drivers.packets.cleaning import cleaned
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, SourcePacket, Trigger
from tests.drivers.packets.made import Given, events, frame


def clean(*packets: SourcePacket, **settings: float) -> tuple[list[SourcePacket], dict[str, int]]:
    stream = cleaned(Given(packets), **settings)  # type: ignore[arg-type]
    result = list(stream)
    counters = stream.counters
    return result, {name: getattr(counters, name) for name in counters.__slots__ if getattr(counters, name)}


def times(packets: list[SourcePacket]) -> list[int]:
    return [int(t) for p in packets if isinstance(p, EventBatch) for t in p.t_us]


def test_good_packets_pass_untouched() -> None:
    batch, image, trigger = events([10, 20]), frame(0, 5, 15), Trigger(12, 0, True)
    packets, counters = clean(batch, trigger, image)
    assert packets[1:] == [trigger, packets[2]]
    assert isinstance(packets[0], EventBatch)
    assert packets[0].t_us is batch.t_us
    assert counters == {"events": 2}


def test_small_steps_back_are_clamped_inside_and_between_batches() -> None:
    packets, counters = clean(events([1000, 3000, 2500]), events([2100, 3500]))
    assert times(packets) == [1000, 3000, 3000, 3000, 3500]
    assert counters["events_clamped"] == 2
    watermarks = [p.watermark_us for p in packets if isinstance(p, EventBatch)]
    assert watermarks == sorted(watermarks)


def test_step_back_of_exactly_1_ms_is_clamped_and_more_is_a_reset() -> None:
    assert times(clean(events([5000]), events([4000]))[0]) == [5000, 5000]
    assert times(clean(events([5000]), events([3999]))[0]) == [5000, 3999]


def test_clock_reset_between_batches_is_a_gap_and_a_new_epoch() -> None:
    packets, counters = clean(events([50_000]), events([100, 200]), frame(1, 50, 150))
    gap = packets[1]
    assert isinstance(gap, Gap)
    assert (gap.t0_us, gap.t1_us, gap.epoch) == (100, 100, 1)
    assert "went back by 49900 us" in gap.reason
    assert [p.epoch for p in packets if isinstance(p, EventBatch | Frame)] == [0, 1, 1]
    assert counters["clock_resets"] == 1


def test_clock_reset_inside_a_batch_splits_it() -> None:
    packets, counters = clean(events([40_000, 50_000, 100, 200, 90], watermark_us=300))
    assert [type(p) for p in packets] == [EventBatch, Gap, EventBatch]
    assert times(packets) == [40_000, 50_000, 100, 200, 200]
    assert counters == {"events": 5, "events_clamped": 1, "clock_resets": 1}


def test_times_that_are_wrong_are_dropped_and_the_clock_goes_on() -> None:
    good = list(range(10_000, 11_000))
    for wrong in ([3], [3, 4, 5], [900_000_000], [40_000, 50_000, 60_000], [2**40, 7]):
        packets, counters = clean(events([*good[:500], *wrong, *good[500:]]))
        assert times(packets) == good
        assert not any(isinstance(packet, Gap) for packet in packets)
        assert counters == {"events": 1000 + len(wrong), "events_stray": len(wrong)}


@pytest.mark.parametrize("cut", [0, 1, 3, 400])
def test_wrong_time_is_told_also_at_the_end_of_a_batch(cut: int) -> None:
    good = list(range(10_000, 11_000))
    for wrong in (3, 900_000_000):
        rest = [events(good[500:][:cut])] if cut else []
        packets, counters = clean(events([*good[:500], wrong]), *rest, events(good[500:][cut:]))
        assert times(packets) == good
        assert counters == {"events": 1001, "events_stray": 1}
        watermarks = [packet.watermark_us for packet in packets if isinstance(packet, EventBatch)]
        assert watermarks == sorted(watermarks)
        assert watermarks[-1] == good[-1]


def test_first_event_alone_ahead_of_all_others_is_dropped() -> None:
    packets, counters = clean(events([2**50, *range(100)]))
    assert times(packets) == list(range(100))
    assert counters == {"events": 101, "events_stray": 1}


def test_jump_ahead_that_stays_is_believed() -> None:
    packets, counters = clean(events([10, 20]), events(range(60_000_000, 60_000_100)))
    assert times(packets) == [10, 20, *range(60_000_000, 60_000_100)]
    assert counters == {"events": 102}


def test_events_without_an_order_are_refused_once(caplog: pytest.LogCaptureFixture) -> None:
    by_pixel = [t for _ in range(300) for t in range(0, 90_000, 3000)]  # each pixel's events, one pixel after the other
    with pytest.raises(SourceError, match=r"not in the order of time.*sort_us"):
        clean(events(by_pixel))
    assert len(caplog.records) < 10


def test_several_resets_count_epochs_up() -> None:
    packets, counters = clean(events([50_000]), events([40_000]), events([30_000]), EventBatch.empty(10_000))
    assert [p.epoch for p in packets if isinstance(p, EventBatch)] == [0, 1, 2, 3]
    assert counters["clock_resets"] == 3


def test_reset_that_a_frame_shows_first_is_counted_once() -> None:
    packets, counters = clean(events([90_000]), frame(0, 60_000, 80_000), frame(1, 100, 200), events([150, 300]))
    assert counters["clock_resets"] == 1
    assert [p.epoch for p in packets if isinstance(p, Frame)] == [0, 1]


def test_reset_that_frames_show_ahead_of_their_events_went_back_by_their_time(caplog: pytest.LogCaptureFixture) -> None:
    packets, _ = clean(events([9000]), frame(0, 300_000, 320_000), frame(1, 20_000, 40_000))
    (gap,) = [packet for packet in packets if isinstance(packet, Gap)]
    assert gap.reason == "the device clock went back by 280000 us"
    assert "went back by 280000 us" in caplog.text


def test_frame_of_the_old_clock_after_a_reset_is_dropped() -> None:
    packets, counters = clean(events([9_000_000]), events(range(100, 120)), frame(7, 8_000_000, 8_020_000))
    assert not [p for p in packets if isinstance(p, Frame)]
    assert counters["frames_stale"] == 1


def test_events_outside_the_sensor_are_dropped_and_counted() -> None:
    many = events(list(range(1000)))
    x = many.x.copy()
    x[500] = 32
    packets, counters = clean(replace(many, x=x))
    assert times(packets) == [t for t in range(1000) if t != 500]
    assert counters["events_outside"] == 1


@pytest.mark.parametrize("count", [200, 50_000])
def test_more_than_one_percent_outside_is_damage(count: int) -> None:
    many = events(list(range(count)))
    y = many.y.copy()
    y[::50] = 24
    with pytest.raises(RecordingDamaged, match="outside the sensor of 32 x 24"):
        clean(replace(many, y=y))


def until_damage(*packets: SourcePacket) -> tuple[list[SourcePacket], RecordingDamaged]:
    """What comes before the damage, and what is told of it."""
    found: list[SourcePacket] = []
    with pytest.raises(RecordingDamaged) as damage:
        found.extend(cleaned(Given(packets)))
    return found, damage.value


@pytest.mark.parametrize("wrong_us", [2**62, -(2**62), 2**63 - 1])
def test_what_comes_before_an_impossible_time_passes_and_frames_too(wrong_us: int) -> None:
    bad = events([*range(1000, 2000), wrong_us, *range(2000, 3000)])
    after = [frame(0, 100, 600), frame(1, 1500, 1999), frame(2, 2100, 2500), events(range(3000, 4000))]
    packets, damage = until_damage(events(range(1000)), bad, *after)
    assert times(packets) == list(range(2000))
    assert [packet.index for packet in packets if isinstance(packet, Frame)] == [0, 1]
    assert f"event 2000 is dated {wrong_us} us" in str(damage)
    assert damage.position == 2000


def test_impossible_promise_is_damage_after_its_events() -> None:
    packets, damage = until_damage(events(range(100), watermark_us=2**62), events(range(100, 200)))
    assert times(packets) == list(range(100))
    assert damage.position == 100


def test_what_comes_before_the_events_outside_passes_however_batches_are_cut() -> None:
    whole = events(range(60_000))
    whole.x[500], whole.x[50_000:] = 32, 32  # noise, then damage
    for size in (60_000, 20_000, 1000):
        batches = [whole.part(slice(at, at + size), at + size - 1) for at in range(0, 60_000, size)]
        packets, damage = until_damage(*batches[:-1], frame(0, 1000, 2000), frame(1, 30_000, 40_000), batches[-1])
        found = times(packets)
        assert found == [t for t in range(50_000) if t != 500]
        assert [packet.index for packet in packets if isinstance(packet, Frame)] in ([0, 1], [])
        assert "events lie outside the sensor of 32 x 24" in str(damage)
        assert damage.position is not None
        assert damage.position > 50_000


def test_wrong_size_of_the_sensor_is_refused_at_its_first_event_outside() -> None:
    many = events(range(50_000))
    many.x[7::2] = 40
    packets, damage = until_damage(many)
    assert times(packets) == list(range(7))
    assert damage.position == 7


def test_events_that_wait_for_others_pass_before_damage_of_the_source() -> None:
    class Broken(Given):
        def __iter__(self) -> Iterator[SourcePacket]:
            yield from super().__iter__()
            raise RecordingDamaged("the file ends", 7)

    found: list[SourcePacket] = []
    with pytest.raises(RecordingDamaged, match="the file ends"):
        found.extend(cleaned(Broken([events([10, 20]), events([60_000_000, 60_000_010])])))
    assert times(found) == [10, 20, 60_000_000, 60_000_010]


def test_row_delay_is_filled_in_and_the_frame_waits_for_its_last_row() -> None:
    packets, _ = clean(events([1_000]), frame(0, 0, 900), events([5_000]), row_delay_us=100.0)
    assert isinstance(packets[2], Frame)
    assert packets[2].row_delay_us == 100.0
    assert packets[2].last_us == 900 + 2300


def test_unknown_exposure_is_an_instant_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        packets, counters = clean(events([50]), frame(0, 10, 10, known=False), frame(1, 30, 30, known=False))
    assert counters["exposures_unknown"] == 2
    assert sum("exposure of frame" in record.message for record in caplog.records) == 1
    assert [(p.exposure_start_us, p.exposure_end_us) for p in packets if isinstance(p, Frame)] == [(10, 10), (30, 30)]


def test_configured_exposure_is_centred_on_the_stamp_of_frames_that_lack_it() -> None:
    packets, counters = clean(events([90]), frame(0, 50, 50, known=False), frame(1, 60, 70), exposure_us=20.0)
    assert [(p.exposure_start_us, p.exposure_end_us) for p in packets if isinstance(p, Frame)] == [(40, 60), (60, 70)]
    assert "exposures_unknown" not in counters


def test_frame_of_another_size_is_refused() -> None:
    odd = replace(frame(0, 0, 1), pixels=np.zeros((10, 10, 1), np.uint8))
    with pytest.raises(SourceError, match="frame 0 is 10 x 10 pixels, the sensor of the events 32 x 24"):
        clean(odd)


def test_frames_of_a_source_without_events_pass_at_once() -> None:
    packets, _ = clean(frame(0, 0, 10), frame(1, 20, 30))
    assert len(packets) == 2


@pytest.mark.parametrize(
    ("numbers", "passed", "restarts"),
    [
        ([0, 1, 5, 2, 3, 4], [0, 1, 5, 6, 7, 8], 1),
        ([7, 8, 0, 1, 0, 4], [7, 8, 9, 10, 11, 15], 2),
        ([3, 3, 3], [3, 4, 5], 2),
        ([2, 4, 9], [2, 4, 9], 0),
    ],
    ids=str,
)
def test_frames_whose_numbers_go_back_are_used_and_counted_on(
    numbers: list[int], passed: list[int], restarts: int, caplog: pytest.LogCaptureFixture
) -> None:
    images = [frame(number, 1000 * k, 1000 * k + 500) for k, number in enumerate(numbers)]
    packets, counters = clean(*images, events([20_000]))
    found = [packet for packet in packets if isinstance(packet, Frame)]
    assert [image.index for image in found] == passed
    assert [image.exposure_start_us for image in found] == [image.exposure_start_us for image in images]
    assert counters.get("frame_counts_restarted", 0) == restarts
    assert caplog.text.count("time does not: it goes on") == min(restarts, 1)


def test_frame_that_comes_twice_is_used_once(caplog: pytest.LogCaptureFixture) -> None:
    first, second = frame(0, 0, 500), frame(1, 1000, 1500)
    packets, counters = clean(first, first, second, second, second, events([20_000]))
    assert [packet.index for packet in packets if isinstance(packet, Frame)] == [0, 1]
    assert counters == {"events": 1, "frames_repeated": 3}
    assert caplog.text.count("comes twice") == 1


def test_another_life_of_the_clock_counts_its_frames_anew() -> None:
    images = [frame(4, 50_000, 50_500), frame(0, 100, 200), frame(1, 1100, 1200)]
    packets, counters = clean(events([51_000]), *images, events([2000]))
    assert [(p.index, p.epoch) for p in packets if isinstance(p, Frame)] == [(4, 0), (0, 1), (1, 1)]
    assert "frame_counts_restarted" not in counters
