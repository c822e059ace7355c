"""Windows that wait become one where a method remembers: nothing of them is lost, and nothing is answered twice."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from drivers.source import SourceInfo
from nire.types import Content, ContentWindow, EventBatch, Gap, Query
from stream.config import load_config
from stream.session.session import Session
from stream.windows.assembler import WindowAssembler
from stream.windows.cut import Cut
from stream.windows.joined import MOST_JOINED, joined
from tests.nire.windows import random_events
from tests.stream import packets
from tests.stream.packets import GEOMETRY, START_US
from tests.stream.session.test_session import Clock

SPAN_US = 33_000
INFO = SourceInfo("events alone", GEOMETRY, has_frames=False)


def stream(spans: int) -> list[EventBatch]:
    """Events for so many whole spans, and a little more, in small packets."""
    end_us = (START_US // SPAN_US + spans + 1) * SPAN_US + 7000
    events = random_events(1, 40 * spans, START_US, end_us, GEOMETRY)
    return packets.cut(events, list(range(START_US, end_us, 5000)))


def whole(batches: list[EventBatch]) -> EventBatch:
    return EventBatch.joined(batches)


class Remembering:
    """Gives gray images, and keeps what it was given."""

    name, engine, needs_frames, rolls = "remembering", "", False, True

    def __init__(self) -> None:
        self.built: list[ContentWindow] = []

    def build(self, window: ContentWindow) -> Content:
        self.built.append(window)
        return window

    def expose(self, content: Content, queries: list[Query]) -> np.ndarray:
        return np.zeros((len(queries), GEOMETRY.height, GEOMETRY.width, 1), np.uint8)


class Forgetting(Remembering):
    rolls = False


def session(method: Remembering, *, freshest: bool = True) -> Session:
    return Session(load_config(None, ["plan.rate_hz=200"]), INFO, method, freshest=freshest, clock=Clock())


def spans_of(method: Remembering) -> list[tuple[float, float]]:
    return [window.answers_us for window in method.built]


def test_what_waits_is_answered_as_one_window_with_all_its_events() -> None:
    batches, method = stream(MOST_JOINED - 1), Remembering()
    machine = session(method)
    exposed = list(machine.feed(batches))
    (window,) = method.built
    first_us = START_US // SPAN_US * SPAN_US
    assert window.answers_us == (first_us, first_us + MOST_JOINED * SPAN_US)
    events = whole(batches)
    expected = events.t_us[(events.t_us >= window.t0_us) & (events.t_us < window.t1_us)]
    assert np.array_equal(window.events.t_us, expected)
    assert machine.counters.late_windows == 0
    times_us = [frame.shutter.mid_us for frame in exposed]
    assert np.array_equal(np.diff(times_us), np.full(len(times_us) - 1, 5000.0))
    assert times_us[-1] - times_us[0] > (MOST_JOINED - 1) * SPAN_US


def test_later_windows_go_on_where_the_joined_one_ended() -> None:
    batches, method = stream(12), Remembering()
    machine = session(method)
    parts = [batches[n : n + 3 * SPAN_US // 5000] for n in range(0, len(batches), 3 * SPAN_US // 5000)]
    exposed = [frame for part in parts for frame in machine.feed(part)] + list(machine.finish())
    assert max(end - begin for begin, end in spans_of(method)) > SPAN_US
    ends = spans_of(method)
    assert all(before[1] == after[0] for before, after in pairwise(ends))
    assert len({frame.index for frame in exposed}) == len(exposed)


def test_more_than_a_method_resolves_is_late() -> None:
    method = Remembering()
    machine = session(method)
    list(machine.feed(stream(MOST_JOINED + 4)))
    lengths = [end - begin for begin, end in spans_of(method)]
    assert max(lengths) == MOST_JOINED * SPAN_US
    assert machine.counters.late_windows > 0


def test_nothing_is_joined_where_nothing_is_dropped_or_nothing_remembered() -> None:
    for method, freshest in ((Remembering(), False), (Forgetting(), True)):
        list(session(method, freshest=freshest).feed(stream(5)))
        assert {end - begin for begin, end in spans_of(method)} == {SPAN_US}


def test_windows_with_a_silence_between_them_stay_apart_and_gaps_are_kept_once() -> None:
    machine = WindowAssembler(GEOMETRY, Cut("span", margin_us=5000, reach_us=0, step_us=5000, span_us=SPAN_US))
    for batch in stream(4):
        machine.push(batch)
    one, two, *rest = machine.waiting()
    gap = Gap(int(two.t0_us), int(two.t0_us) + 10, "lost")
    (both,) = joined([replace(one, gaps=(gap,)), replace(two, gaps=(gap,))])
    assert both.gaps == (gap,)
    assert both.index == two.index
    assert both.covered_us == (one.covered_us[0], two.covered_us[1])
    later = replace(rest[0], answers_us=(two.answers_us[1] + SPAN_US, two.answers_us[1] + 2 * SPAN_US))
    assert joined([one, later]) == [one, later]
    assert joined([one]) == [one]
