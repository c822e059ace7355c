"""The session: images from packets, whatever the delivery; what it drops under load, it counts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from drivers.recordings.recording.source import packet_span_us
from drivers.source import SourceInfo
from nire.backends import edi, passthrough
from nire.errors import ConfigError, ShutterOutsideWindow, SourceError
from nire.metrics import psnr
from nire.shutter import Shutter
from nire.types import EventBatch, ExposedFrame, Frame, Packet
from stream.config import load_config
from stream.session.session import Session
from tests.stream import packets
from tests.stream.packets import INFO, PERIOD_US, START_US

HEIGHT = packets.GEOMETRY.height


class Clock:
    """Host time that only moves when told."""

    def __init__(self) -> None:
        """Begin at one second."""
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns


def session(*overrides: str, freshest: bool = False, info: SourceInfo = INFO, clock: Clock | None = None) -> Session:
    config = load_config(None, overrides)
    backend = edi.create(packets.GEOMETRY)
    return Session(config, info, backend, freshest=freshest, clock=clock or Clock())


def run(stream: Iterable[Packet], *overrides: str) -> list[ExposedFrame]:
    machine = session(*overrides)
    return [*machine.feed(stream), *machine.finish()]


def fingerprint(frames: list[ExposedFrame]) -> list[tuple[object, ...]]:
    return [(f.index, f.window, f.tag, f.shutter.t_a_us.tobytes(), f.pixels.tobytes()) for f in frames]


def later(images: list[Frame], by_us: int) -> list[Frame]:
    """Expose frames so much later."""
    return [
        replace(image, exposure_start_us=image.exposure_start_us + by_us, exposure_end_us=image.exposure_end_us + by_us)
        for image in images
    ]


@pytest.mark.parametrize("plan", ["upsample", "deblur", "unroll", "reshutter"])
def test_any_interleaving_and_splitting_gives_the_same_images_bit_for_bit(plan: str) -> None:
    overrides = [f"plan.name={plan}", "plan.rate_hz=300"]
    if plan == "reshutter":
        overrides += ["plan.exposure_us=3000", "plan.row_delay_us=50"]
    expected = fingerprint(run(packets.usual(), *overrides))
    assert len(expected) >= 6
    for seed in range(6):
        assert fingerprint(run(packets.interleaved(seed), *overrides)) == expected


def test_feeding_packet_by_packet_equals_feeding_at_once() -> None:
    machine = session()
    one_by_one = [frame for packet in packets.usual() for frame in machine.feed([packet])]
    assert fingerprint([*one_by_one, *machine.finish()]) == fingerprint(run(packets.usual()))


def test_plan_that_asks_for_the_captured_shutter_returns_the_captured_frame() -> None:
    exposed = run(packets.usual(), "plan.name=deblur", f"plan.exposure_us={packets.EXPOSURE_US}")
    for frame, captured in zip(exposed, packets.frames(), strict=True):
        assert psnr(frame.pixels, captured.pixels) >= 50


def test_indices_count_up_and_windows_are_named() -> None:
    exposed = run(packets.usual(), "plan.rate_hz=200")
    assert [frame.index for frame in exposed] == list(range(len(exposed)))
    assert {frame.window for frame in exposed} == {0, 1, 2, 3, 4}


def test_stamps_tell_the_middle_of_the_shutter_and_the_newest_data_needed() -> None:
    stream = [replace(p, received_ns=7_000 + k) for k, p in enumerate(packets.usual())]
    exposed = run(stream, "plan.name=deblur")
    assert exposed[0].stamps.device_us == START_US + packets.EXPOSURE_US / 2
    frame_received = next(p.received_ns for p in stream if isinstance(p, Frame))
    assert exposed[0].stamps.received_ns == frame_received


def test_source_without_frames_is_refused_with_what_can_be_done() -> None:
    with pytest.raises(SourceError, match="events but no frames"):
        session(info=replace(INFO, has_frames=False))


def test_span_windows_are_refused_for_a_method_that_needs_frames() -> None:
    with pytest.raises(ConfigError, match="policy = 'auto'"):
        session("window.policy=span")


def test_rolling_frames_are_unrolled_to_one_instant() -> None:
    stream = packets.in_order(packets.frames(row_delay_us=100.0), packets.cut(packets.events(), []))
    exposed = run(stream, "plan.name=unroll")
    assert all(frame.shutter.is_flat for frame in exposed)
    assert [f.shutter.mid_us for f in exposed] == [f.mid_us for f in packets.frames(row_delay_us=100.0)]


def test_set_plan_changes_what_is_asked_from_the_next_window_on() -> None:
    machine = session("plan.rate_hz=100")
    stream = packets.usual()
    half = len(stream) // 2
    before = list(machine.feed(stream[:half]))
    machine.set_plan({"name": "deblur"})
    after = [*machine.feed(stream[half:]), *machine.finish()]
    assert {frame.tag for frame in before} == {"upsample"}
    assert {frame.tag for frame in after} == {"deblur"}
    machine.set_plan({"name": "upsample"})


def test_set_plan_back_and_forth_answers_no_instant_twice() -> None:
    machine = session("plan.rate_hz=100")
    seen: list[float] = []
    for k, packet in enumerate(packets.usual()):
        seen += [f.shutter.mid_us for f in machine.feed([packet]) if f.tag == "upsample"]
        machine.set_plan({"name": "deblur" if k % 9 < 4 else "upsample"})
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen)


def test_wrong_plan_is_refused_and_the_old_one_stays() -> None:
    machine = session("plan.rate_hz=100")
    with pytest.raises(ConfigError, match="rate_hz"):
        machine.set_plan({"rate_hz": -1})
    with pytest.raises(ConfigError, match="rate_hz = True: a number is expected"):
        machine.set_plan({"rate_hz": True})
    assert machine.plan.rate_hz == 100


def test_paused_session_keeps_its_windows_and_can_be_asked() -> None:
    machine = session()
    machine.paused = True
    assert list(machine.feed(packets.usual())) == []
    frame = machine.ask(Shutter.instant(START_US + 4 * PERIOD_US + 12_000.0, HEIGHT), "one")
    assert (frame.tag, frame.index) == ("one", 0)


def test_asking_gives_the_image_that_the_plan_would_have_given() -> None:
    machine = session("plan.rate_hz=200", "reconstructor.contrast_threshold=[0.2,0.3]")
    exposed = list(machine.feed(packets.usual()))
    newest = exposed[-1]
    np.testing.assert_array_equal(machine.ask(newest.shutter, "again").pixels, newest.pixels)
    older = next(f for f in exposed if f.window == newest.window - 2)
    np.testing.assert_array_equal(machine.ask(older.shutter, "again").pixels, older.pixels)


def test_asking_outside_names_what_is_covered() -> None:
    machine = session()
    list(machine.feed(packets.usual()))
    with pytest.raises(ShutterOutsideWindow, match="can be asked for") as caught:
        machine.ask(Shutter.instant(START_US + 9e6, HEIGHT), "late")
    assert caught.value.covered_us == machine.covered_us


def test_shutter_wider_than_a_window_says_so() -> None:
    machine = session()
    list(machine.feed(packets.usual()))
    first_us, last_us = machine.covered_us or (0.0, 0.0)
    with pytest.raises(ShutterOutsideWindow, match=r"us wide, and no window is wider than \d+ us"):
        machine.ask(Shutter.rolling(first_us, last_us, row_delay_us=0, height=HEIGHT), "wide")


def test_freshest_skips_older_windows_counts_them_and_leaves_holes_in_the_index() -> None:
    machine = session("plan.rate_hz=100", freshest=True)
    exposed = list(machine.feed(packets.usual()))
    in_full = run(packets.usual(), "plan.rate_hz=100")
    assert machine.counters.late_windows == 3
    assert exposed[0].index == next(f.index for f in in_full if f.window == exposed[0].window)
    assert exposed[0].late_windows == 3
    assert [f.shutter.mid_us for f in exposed] == [f.shutter.mid_us for f in in_full if f.window in (3, 4)][
        : len(exposed)
    ]


def test_freshest_gives_the_same_images_as_offline_when_it_keeps_up() -> None:
    machine = session("plan.rate_hz=100", freshest=True)
    exposed = [frame for packet in packets.usual() for frame in machine.feed([packet])]
    assert fingerprint([*exposed, *machine.finish()]) == fingerprint(run(packets.usual(), "plan.rate_hz=100"))


class SlowBackend(passthrough.Passthrough):
    """Takes 4 ms of the given clock for every query."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def expose(self, content, queries):
        self._clock.now_ns += 4_000_000 * len(queries)
        return super().expose(content, queries)


def test_queries_beyond_the_time_budget_are_thinned_evenly_and_counted() -> None:
    clock = Clock()
    config = load_config(None, ["plan.rate_hz=500"])  # 20 queries a window, 80 ms of work in 40 ms
    machine = Session(config, INFO, SlowBackend(clock), freshest=True, clock=clock)
    exposed = [frame for packet in packets.usual() for frame in machine.feed([packet])]
    per_window = [sum(f.window == w for f in exposed) for w in range(5)]
    assert per_window[0] >= 20  # nothing is known yet
    assert per_window[1:4] == [10, 10, 10]
    assert machine.counters.reduced_queries == 10 * len(per_window[1:])
    indices = [f.index for f in exposed if f.window == 2]
    assert set(np.diff(indices).tolist()) == {2}


def in_real_time(
    machine: Session, stream: Iterable[Packet], clock: Clock, speed: float = 1.0
) -> Iterator[ExposedFrame]:
    """Feed packets when they are due, all at once that came while the machine was busy; the clock waits for them."""
    began_ns = clock.now_ns
    due = [(began_ns + 1000 * (packet_span_us(packet)[1] - START_US) / speed, packet) for packet in stream]
    while due:
        clock.now_ns = max(clock.now_ns, round(due[0][0]))
        arrived = [packet for at_ns, packet in due if at_ns <= clock.now_ns]
        due = due[len(arrived) :]
        yield from machine.feed(arrived)


class StallingBackend(passthrough.Passthrough):
    """Takes 39 of the 40 ms that there are, 14 of them for its queries; for window 8 it takes 42 ms more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def build(self, window):
        self._clock.now_ns += 67_000_000 if window.index == 8 else 25_000_000
        return super().build(window)

    def expose(self, content, queries):
        self._clock.now_ns += 14_000_000
        return super().expose(content, queries)


def test_what_came_late_once_does_not_stay_late_where_the_machine_just_keeps_up() -> None:
    clock = Clock()
    began_ns = clock.now_ns
    stream = packets.in_order(
        packets.frames(40), packets.cut(packets.events(20_000, 40), range(START_US, START_US + 1_600_000, 5000))
    )
    machine = Session(load_config(None, ["plan.rate_hz=50"]), INFO, StallingBackend(clock), freshest=True, clock=clock)
    late_ms: dict[int, float] = {}
    for frame in in_real_time(machine, stream, clock):
        complete_ns = began_ns + 1000 * (START_US + (frame.window + 1) * PERIOD_US + packets.EXPOSURE_US - START_US)
        late_ms[frame.window] = (clock.now_ns - complete_ns) / 1e6
    assert late_ms[8] > 80
    assert max(late_ms[w] for w in late_ms if w > 8) < 60
    assert machine.counters.late_windows == 1


class BusyBackend(passthrough.Passthrough):
    """Takes 20 ms for a build and 4 ms for a query, until it is told that the load is gone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.load = 1.0

    def build(self, window):
        self._clock.now_ns += round(20_000_000 * self.load)
        return super().build(window)

    def expose(self, content, queries):
        self._clock.now_ns += round(4_000_000 * len(queries) * self.load)
        return super().expose(content, queries)


def test_live_edge_that_is_asked_for_too_much_gives_fewer_instants_and_no_older_ones() -> None:
    clock = Clock()
    began_ns = clock.now_ns
    stream = packets.in_order(
        packets.frames(40), packets.cut(packets.events(20_000, 40), range(START_US, START_US + 1_600_000, 2000))
    )
    config = load_config(None, ["plan.rate_hz=1000", "window.policy=live_edge"])
    backend = BusyBackend(clock)
    machine = Session(config, INFO, backend, freshest=True, clock=clock)
    late_ms, asked_us = [], []
    for frame in in_real_time(machine, stream, clock):
        asked_us.append(frame.shutter.mid_us - START_US)
        late_ms.append((clock.now_ns - began_ns) / 1e6 - asked_us[-1] / 1e3)
        if asked_us[-1] > 1_000_000:
            backend.load = 0.01
    busy = [late for late, t_us in zip(late_ms, asked_us, strict=True) if 200_000 < t_us < 950_000]
    assert max(busy) < 120
    assert len(busy) > 50  # of 750: 12 a window of 65 ms, at the most
    assert machine.counters.reduced_queries > 500
    rest = [t_us for t_us in asked_us if t_us > 1_200_000]
    assert np.diff(rest) == pytest.approx(1000)


def test_load_that_goes_lets_the_queries_come_back() -> None:
    clock = Clock()
    config = load_config(None, ["plan.rate_hz=500", "plan.time_budget_ms=20"])
    backend = SlowBackend(clock)
    machine = Session(config, INFO, backend, freshest=True, clock=clock)
    counts: dict[int, int] = {}
    stream = packets.in_order(
        packets.frames(40), packets.cut(packets.events(20_000, 40), range(START_US, START_US + 1_600_000, 5000))
    )
    for packet in stream:
        for frame in machine.feed([packet]):
            counts[frame.window] = counts.get(frame.window, 0) + 1
            if frame.window == 10:
                backend._clock = Clock()  # the load is gone: queries cost nothing any more
    assert counts[9] == 5
    assert counts[35] == 20


def test_calibration_that_is_fixed_is_used_and_published() -> None:
    machine = session("reconstructor.contrast_threshold=[0.31,0.42]", "source.time_offset_us=250")
    list(machine.feed(packets.usual()))
    current = machine.calibration
    assert (current.threshold_positive, current.threshold_negative, current.time_offset_us) == (0.31, 0.42, 250)


def test_windows_are_answered_through_the_margin_beyond_the_outermost_exposures() -> None:
    machine = Session(
        load_config(None), INFO, edi.create(packets.GEOMETRY), freshest=False, clock=Clock(), reach_us=5000
    )
    covered = [window.covered_us for window in machine.windows(packets.usual())]
    assert min(a for a, _ in covered) == START_US - 5000
    assert max(b for _, b in covered) == START_US + 5 * PERIOD_US + packets.EXPOSURE_US + 5000
    assert math.isfinite(covered[0][0])


@pytest.mark.parametrize("freshest", [False, True])
def test_plans_of_single_frames_learn_from_each_frame_and_the_one_before_it(freshest: bool) -> None:
    pairs: list[list[int]] = []
    machine = session("plan.name=deblur", freshest=freshest, info=replace(INFO, time_offset_us=None))
    machine._learning._calibrator.observe = lambda frames, *_: pairs.append([frame.index for frame in frames])
    if freshest:
        list(machine.feed(packets.usual()))  # several windows wait at once
    else:
        for packet in packets.usual():
            list(machine.feed([packet]))
    list(machine.finish())
    assert pairs
    assert all(second == first + 1 for first, second in pairs)
    assert freshest or pairs == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]


def test_pairs_teach_once_each_though_the_last_has_two_windows() -> None:
    pairs: list[list[int]] = []
    machine = session("window.policy=pair", info=replace(INFO, time_offset_us=None))
    machine._learning._calibrator.observe = lambda frames, *_: pairs.append([frame.index for frame in frames])
    windows = [[frame.index for frame in window.frames] for window in machine.windows(packets.usual())]
    assert windows[-2:] == [[4, 5], [4, 5]]
    assert pairs == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]


def test_instants_asked_of_single_frames_lie_within_their_exposures() -> None:
    exposed = run(packets.usual(), "window.policy=single", "plan.rate_hz=200")
    ends = [(frame.first_us, frame.last_us) for frame in packets.frames()]
    assert [f.shutter.mid_us for f in exposed] == [first + k * 5000 for first, _ in ends for k in range(5)]
    assert [f.window for f in exposed] == [w for w in range(len(ends)) for _ in range(5)]


BARREN = [
    (["plan.exposure_us=900000"], r"an image takes 900000 us, and a window covers \d+ us; lower plan.exposure_us"),
    (
        ["plan.name=reshutter", "plan.row_delay_us=10000", "plan.exposure_us=20000"],
        "lower plan.exposure_us or plan.row_delay_us",
    ),
    (
        ["plan.name=deblur", "plan.offset_us=900000"],
        r"asked of a window that covers \[\d+, \d+\] us; lower plan.offset_us",
    ),
    (["plan.rate_hz=0.01"], "no multiple of 100000000 us lies there; raise plan.rate_hz"),
]


@pytest.mark.parametrize(("overrides", "reason"), BARREN, ids=[overrides[-1] for overrides, _ in BARREN])
def test_plan_that_can_make_no_image_says_why_once(
    overrides: list[str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(packets.usual(), *overrides) == []
    assert caplog.text.count("makes no image of any window") == 1
    assert re.search(reason, caplog.text)


def test_plan_that_makes_some_images_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert run(packets.usual(), "plan.rate_hz=30")
    assert "makes no image" not in caplog.text


@pytest.mark.parametrize(
    ("overrides", "leaves_out"),
    [
        ([], False),
        (["plan.exposure_us=9000"], False),
        (["plan.exposure_us=60000", "plan.rate_hz=250"], True),
        (["plan.name=reshutter", "plan.row_delay_us=5000", "plan.rate_hz=250"], True),
    ],
    ids=["instants", "narrow", "wide", "tilted"],
)
def test_images_that_reach_out_of_every_window_are_counted_and_told_once(
    overrides: list[str], leaves_out: bool, caplog: pytest.LogCaptureFixture
) -> None:
    machine = session(*overrides)
    made = [*machine.feed(packets.usual()), *machine.finish()]
    assert made
    plan = machine.plan
    middles = sorted(frame.shutter.mid_us for frame in made)
    holes = sum(round((b - a) * plan.rate_hz / 1e6) - 1 for a, b in pairwise(middles))
    # The window of the last frame alone has some before its own, which leave no hole.
    a_window = PERIOD_US * plan.rate_hz / 1e6
    assert holes <= machine.uncovered <= holes + a_window / 2
    assert (holes > 0) == leaves_out == (machine.uncovered > 0)
    assert caplog.text.count("images so far are left out") == leaves_out


def test_stream_that_goes_on_is_told_before_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    machine = session("plan.exposure_us=900000")
    images, batches = packets.frames(14), packets.cut(packets.events(periods=14), [])
    assert list(machine.feed(packets.in_order(images, batches))) == []
    assert caplog.text.count("makes no image of any window") == 1


@pytest.mark.parametrize("later_us", [10**9, -(10**6) + 1000], ids=["frames later", "frames earlier"])
def test_frames_and_events_of_two_clocks_are_told(later_us: int, caplog: pytest.LogCaptureFixture) -> None:
    images = later(packets.frames(), later_us)
    run([*images, packets.events()])
    assert caplog.text.count("Are their times of one clock") == 1
    caplog.clear()
    run([*images, *packets.frames(), packets.events()] if later_us < 0 else packets.usual())
    assert "one clock" not in caplog.text
    machine = session()
    list(machine.windows([*images, packets.events()]))
    assert caplog.text.count("Are their times of one clock") == 1


def test_stream_without_events_or_without_frames_has_nothing_to_overlap(caplog: pytest.LogCaptureFixture) -> None:
    run(packets.frames())
    run([packets.frames()[0], EventBatch.empty(packets.START_US + 100_000)])
    assert "one clock" not in caplog.text


def test_plan_that_is_slower_than_windows_come_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    machine = session("plan.rate_hz=0.7")  # of the 20 windows the last ones have an instant
    images, batch = packets.frames(21), packets.events(periods=21)
    assert [*machine.feed(packets.in_order(images, packets.cut(batch, []))), *machine.finish()]
    assert "makes no image" not in caplog.text


def test_two_clocks_of_a_stream_that_goes_on_are_told_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    machine = session()
    list(
        machine.feed(
            [packets.cut(packets.events(), [])[0], *later(packets.frames(14), 10**9), EventBatch.empty(2 * 10**9)]
        )
    )
    assert caplog.text.count("Are their times of one clock") == 1
