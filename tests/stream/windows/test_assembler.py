"""Windows from packets: which, when, and the same for any interleaving."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from nire.types import ContentWindow, EventBatch, Gap, Packet
from stream.blocks import Blocks
from stream.windows.assembler import WindowAssembler
from stream.windows.cut import Cut
from stream.windows.tape import Tape
from tests.stream import packets
from tests.stream.packets import EXPOSURE_US, PERIOD_US, START_US


def assembler(policy: str, *, margin_us: int = 5000, reach_us: int = 0) -> WindowAssembler:
    return WindowAssembler(packets.GEOMETRY, Cut(policy, margin_us=margin_us, reach_us=reach_us, step_us=5000))


def windows_of(stream: Iterable[Packet], policy: str) -> list[ContentWindow]:
    machine = assembler(policy)
    found = []
    for packet in stream:
        machine.push(packet)
        for window in machine.complete():
            found.append(window)
            machine.release()
    return found + list(machine.finish())


def signature(window: ContentWindow) -> tuple[object, ...]:
    events = window.events
    return (
        window.index, window.t0_us, window.t1_us, window.answers_us, window.covered_us,
        tuple(frame.index for frame in window.frames), tuple(window.gaps),
        events.t_us.tobytes(), events.x.tobytes(), events.y.tobytes(), events.p.tobytes(),
    )  # fmt: skip


@pytest.mark.parametrize("policy", ["pair", "single"])
@pytest.mark.parametrize("seed", range(8))
def test_any_interleaving_and_splitting_gives_the_same_windows(policy: str, seed: int) -> None:
    expected = [signature(window) for window in windows_of(packets.usual(), policy)]
    assert [signature(window) for window in windows_of(packets.interleaved(seed), policy)] == expected


def test_pairs_tile_time_without_hole_or_repeat() -> None:
    answers = [window.answers_us for window in windows_of(packets.usual(), "pair")]
    assert answers[0][0] == START_US
    for (_, end), (begin, _) in itertools.pairwise(answers):
        assert begin == end
    last_end = START_US + 5 * PERIOD_US + EXPOSURE_US
    assert answers[-1] == (last_end - EXPOSURE_US / 2, np.nextafter(last_end, np.inf))


def test_last_pair_answers_again_to_the_end_of_its_last_exposure_at_the_end_of_the_stream() -> None:
    found = windows_of(packets.usual(), "pair")
    assert [window.index for window in found] == [0, 1, 2, 3, 4, 4]
    assert [f.index for f in found[-1].frames] == [4, 5]
    assert found[-1].covered_us[1] == START_US + 5 * PERIOD_US + EXPOSURE_US + 5000


def test_window_holds_all_events_of_its_span_and_no_other() -> None:
    everything = packets.events()
    for window in windows_of(packets.usual(), "pair"):
        inside = (everything.t_us >= window.t0_us) & (everything.t_us < window.t1_us)
        np.testing.assert_array_equal(window.events.t_us, everything.t_us[inside])
        np.testing.assert_array_equal(window.events.x, everything.x[inside])


def test_window_waits_for_the_watermark_not_for_events() -> None:
    machine = assembler("single")
    frame = packets.frames(1)[0]
    machine.push(frame)
    machine.push(EventBatch.empty(frame.exposure_end_us - 1))
    assert list(machine.complete()) == []
    machine.push(EventBatch.empty(frame.exposure_end_us))
    assert len(list(machine.complete())) == 1


def test_window_waits_for_what_the_plan_reaches_and_the_guard() -> None:
    machine = assembler("single", reach_us=3000)
    machine.guard((0, 500))
    frame = packets.frames(1)[0]
    machine.push(frame)
    machine.push(EventBatch.empty(frame.exposure_end_us + 3499))
    assert list(machine.complete()) == []
    machine.push(EventBatch.empty(frame.exposure_end_us + 3500))
    (window,) = machine.complete()
    assert window.t1_us == frame.exposure_end_us + 3500
    assert window.covered_us[1] == frame.exposure_end_us + 3000


def test_lone_frame_under_pair_is_treated_as_single() -> None:
    batch = packets.events()
    (window,) = windows_of(packets.in_order(packets.frames(1), packets.cut(batch, [])), "pair")
    assert [frame.index for frame in window.frames] == [0]
    assert window.answers_us == (START_US, np.nextafter(START_US + EXPOSURE_US, np.inf))


def test_frames_too_far_apart_are_not_paired() -> None:
    first, second = packets.frames(2)
    second = replace(second, exposure_start_us=START_US + 2_000_000, exposure_end_us=START_US + 2_020_000)
    found = windows_of([first, second, EventBatch.empty(START_US + 3_000_000)], "pair")
    assert [[f.index for f in window.frames] for window in found] == [[0], [1]]


def test_gap_belongs_to_the_windows_that_it_touches() -> None:
    gap = Gap(START_US + 25_000, START_US + 30_000, "lost")
    found = windows_of([gap, *packets.usual()], "pair")
    assert [bool(window.gaps) for window in found] == [True, False, False, False, False, False]


def test_clock_reset_ends_the_old_stream_and_begins_a_new_one() -> None:
    second_life = [
        replace(p, epoch=1) if not isinstance(p, Gap) else p for p in packets.usual()
    ]  # the same times again, as after a reset
    gap = Gap(START_US, START_US, "clock reset", epoch=1)
    found = windows_of([*packets.usual(), gap, *second_life], "pair")
    once = windows_of(packets.usual(), "pair")
    assert [w.answers_us for w in found] == [w.answers_us for w in once] * 2
    assert [w.index for w in found[len(once) :]] == [5, 6, 7, 8, 9, 9]


def test_frame_of_the_next_epoch_waits_for_its_events() -> None:
    images = packets.frames(2)
    early = replace(images[0], epoch=1)
    machine = assembler("single")
    machine.push(early)
    assert list(machine.complete()) == []
    machine.push(replace(packets.events(), epoch=1))
    assert [w.frames[0].index for w in machine.complete()] == [0]


def test_events_before_a_window_are_kept_for_an_offset_that_reaches_back() -> None:
    machine = assembler("pair", margin_us=0)
    machine.guard((7000, 0))
    everything = packets.events()
    for packet in packets.usual():
        machine.push(packet)
        for window in machine.complete():
            assert window.t0_us == window.frames[0].first_us - 7000
            inside = (everything.t_us >= window.t0_us) & (everything.t_us < window.t1_us)
            np.testing.assert_array_equal(window.events.t_us, everything.t_us[inside])
            machine.release()


def test_live_edge_answers_on_a_grid_without_waiting_for_the_next_frame() -> None:
    machine = assembler("live_edge")
    frame = packets.frames(1)[0]
    machine.push(frame)
    ends = []
    for piece in packets.cut(packets.events(), range(START_US, START_US + 60_000, 1000)):
        machine.push(piece)
        ends += [window.answers_us for window in machine.complete()]
    begins = [begin for begin, _ in ends]
    assert ends[0] == (START_US, np.nextafter(START_US + 20_000, np.inf))
    assert begins[1:] == [end for _, end in ends[:-1]]
    grid_us = [*range(START_US + 20_000, START_US + 60_000, 5000), START_US + 250_000]
    assert [end for _, end in ends] == [np.nextafter(t_us, np.inf) for t_us in grid_us]


def test_live_edge_asks_for_nothing_of_the_time_that_a_clock_leaves_out() -> None:
    machine = assembler("live_edge")
    machine.push(packets.frames(1)[0])
    machine.push(EventBatch.empty(START_US + 30_000))
    before = list(machine.complete())[-1]
    machine.push(EventBatch.empty(START_US + 60_000_000))
    (after,) = machine.complete()
    begin_us, end_us = after.answers_us
    assert before.answers_us[1] < begin_us
    assert end_us - begin_us <= 600_001


def test_span_windows_tile_a_stream_without_frames() -> None:
    found = windows_of(packets.cut(packets.events(), range(START_US, START_US + 200_000, 3000)), "span")
    assert len(found) >= 3
    for before, after in itertools.pairwise(found):
        assert before.answers_us[1] == after.answers_us[0]


def test_memory_does_not_grow_when_frames_stop() -> None:
    machine = assembler("pair")
    for packet in packets.usual():
        machine.push(packet)
        list(machine.complete())
        machine.release()
    for k in range(2000):
        t_us = START_US + 300_000 + 5000 * k
        batch = EventBatch(np.array([t_us]), np.zeros(1, np.uint16), np.zeros(1, np.uint16), np.ones(1, np.uint8), t_us)
        machine.push(batch)
        list(machine.complete())
        machine.release()
    assert machine.held_events < 400


@pytest.mark.parametrize("policy", ["pair", "single", "live_edge", "span"])
def test_windows_that_wait_get_the_events_of_those_that_do_not(policy: str) -> None:
    stream = packets.usual()
    machines = assembler(policy), assembler(policy)
    found: list[list[ContentWindow]] = [[], []]
    for packet in stream:
        for machine in machines:
            machine.push(packet)
        whole, thin = list(machines[0].complete()), machines[1].waiting()
        assert not any(len(window.events) for window in thin)
        found[0] += whole
        found[1] += [machines[1].filled(window) for window in thin]
        for machine in machines:
            machine.release()
    assert found[0]
    assert list(map(signature, found[0])) == list(map(signature, found[1]))


def test_window_of_a_clock_that_is_over_has_its_events_when_it_waits() -> None:
    machine, other = assembler("pair"), assembler("pair")
    stream = packets.usual()
    again = [replace(packet, epoch=1) for packet in stream]
    for packet in (*stream, *again[: len(again) // 2]):
        machine.push(packet)
        other.push(packet)
    windows = [machine.filled(window) for window in machine.waiting()]
    assert {window.events.epoch for window in windows} == {0, 1}
    assert list(map(signature, windows)) == list(map(signature, other.complete()))
    assert all(len(window.events) for window in windows)


def test_windows_that_nobody_answers_copy_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a large sensor's window takes as long as an image, and its memory is new to the process."""
    copied: list[int] = []
    machine, across = assembler("pair"), Tape._across
    machine._held.tape._blocks = Blocks(least_events=500)

    def noted(tape: Tape, low: int, high: int) -> object:
        copied.append(low)
        return across(tape, low, high)

    monkeypatch.setattr(Tape, "_across", noted)
    for packet in packets.usual():
        machine.push(packet)
    thin = machine.waiting()
    assert thin
    assert not copied
    assert all(len(machine.filled(window).events) for window in thin)
    assert copied
