"""Work ahead, and windows that extend one another: the same images, sooner."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from nire.backends import edi, passthrough
from nire.types import Content, ContentWindow, EventBatch, ExposedFrame, Packet, Query
from stream.config import load_config
from stream.session.ahead import Ahead
from stream.session.session import Session
from tests.nire.windows import random_events, random_frame, window_of
from tests.stream import packets
from tests.stream.packets import INFO, START_US
from tests.stream.session.test_session import Clock, fingerprint, run, session

KNOWN = "reconstructor.contrast_threshold=[0.2,0.3]"


def run_with_pauses(stream: Iterable[Packet], *overrides: str, seed: int) -> tuple[list[ExposedFrame], Session]:
    """Feed packets one by one, and work ahead for some of the time between them."""
    machine, rng = session(*overrides), random.Random(seed)
    found = []
    for packet in stream:
        found += machine.feed([packet])
        for _ in range(rng.choice([0, 0, 1, 2, 50])):
            if not machine.ahead():
                break
    return [*found, *machine.finish()], machine


@pytest.mark.parametrize("policy", ["pair", "single"])
@pytest.mark.parametrize("seed", range(4))
def test_work_ahead_changes_no_image(policy: str, seed: int) -> None:
    overrides = ["plan.rate_hz=300", f"window.policy={policy}", KNOWN]
    expected = fingerprint(run(packets.usual(), *overrides))
    found, machine = run_with_pauses(packets.interleaved(seed), *overrides, seed=seed)
    assert fingerprint(found) == expected
    if policy == "pair":
        assert machine.counters.built_ahead > 0


@pytest.mark.parametrize("plan", ["plan.exposure_us=0", "plan.exposure_us=3000"])
def test_work_ahead_that_learns_and_wide_shutters_change_no_image(plan: str) -> None:
    info = replace(INFO, time_offset_us=None)
    expected = session("plan.rate_hz=200", plan, info=info)
    plain = [*expected.feed(packets.usual()), *expected.finish()]
    machine = session("plan.rate_hz=200", plan, info=info, freshest=True)
    found = []
    for packet in packets.usual():
        found += machine.feed([packet])
        while machine.ahead():
            pass
    assert fingerprint([*found, *machine.finish()]) == fingerprint(plain)


def test_pairs_are_begun_ahead_and_the_present_content_can_still_be_asked() -> None:
    machine = session("plan.rate_hz=100", KNOWN, freshest=True)
    for packet in packets.usual():
        for newest in machine.feed([packet]):
            before = machine.counters.built_ahead
            while machine.ahead():
                pass
            again = machine.ask(newest.shutter, "again")
            assert again.pixels.tobytes() == newest.pixels.tobytes()
            assert machine.counters.built_ahead == before
        while machine.ahead():
            pass
    assert machine.counters.windows >= 5
    assert machine.counters.built_ahead >= machine.counters.windows - 2


def test_method_that_cannot_work_ahead_is_left_alone() -> None:
    machine = Session(load_config(None), INFO, passthrough.create(packets.GEOMETRY), freshest=True, clock=Clock())
    list(machine.feed(packets.usual()[:10]))
    assert not machine.ahead()


class Noting(edi.EdiReconstructor):
    """Notes how far each piece of work went: the end of the window, and its events."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, int]] = []

    def ahead(self, window: ContentWindow) -> bool:
        self.pieces.append((window.t1_us, len(window.events)))
        return False


def test_work_comes_in_pieces_and_ends() -> None:
    backend = Noting()
    ahead = Ahead(backend)
    window = window_of((random_frame(1, 0, 100_000, 120_000),), random_events(2, 400_000, 80_000, 140_000))
    while ahead.step(window):
        pass
    counts = [count for _, count in backend.pieces]
    steps = np.diff([0, *counts])
    assert max(steps) < 51_000  # those of one microsecond stay together
    assert len(window.events) - counts[-1] < 50_000  # what is left is less than a piece: the build's
    assert all(count == np.count_nonzero(window.events.t_us < t1_us) for t1_us, count in backend.pieces)


def test_piece_is_not_worth_its_calls_before_enough_is_new() -> None:
    backend = Noting()
    ahead = Ahead(backend)
    whole = window_of((random_frame(1, 0, 100_000, 120_000),), random_events(2, 900, 80_000, 140_000))

    def until(t1_us: int) -> ContentWindow:
        early = whole.events.t_us < t1_us
        columns = (getattr(whole.events, name)[early] for name in ("t_us", "x", "y", "p"))
        return replace(whole, t1_us=t1_us, events=EventBatch(*columns, t1_us))

    assert ahead.step(until(110_000))
    assert not ahead.step(until(117_000))
    assert ahead.step(until(118_000))
    assert [t1_us for t1_us, _ in backend.pieces] == [110_000, 118_000]


def test_work_that_is_left_is_done_before_more_arrives() -> None:
    class Slow(Noting):
        def ahead(self, window: ContentWindow) -> bool:
            super().ahead(window)
            return len(self.pieces) < 4

    backend = Slow()
    ahead = Ahead(backend)
    window = window_of((random_frame(1, 0, 100_000, 120_000),), random_events(2, 900, 80_000, 140_000))
    assert [ahead.step(window) for _ in range(6)] == [True, True, True, True, False, False]
    assert set(backend.pieces) == {(window.t1_us, len(window.events))}


# The live edge


class Anew:
    """Builds every window by a backend that knows no other."""

    name, engine, needs_frames = "edi", "torch", True

    def build(self, window: ContentWindow) -> Content:
        self._backend = edi.create(packets.GEOMETRY)
        return self._backend.build(window)

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        return self._backend.expose(content, queries)


def at_live_edge(*overrides: str, packet_us: int = 2000) -> list[ExposedFrame]:
    machine = session("window.policy=live_edge", "plan.name=upsample", *overrides, freshest=True)
    stream = packets.in_order(
        packets.frames(), packets.cut(packets.events(), range(START_US, START_US + 200_000, packet_us))
    )
    return [frame for packet in stream for frame in machine.feed([packet])]


@pytest.mark.parametrize("exposure_us", [500, 20_000])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("rate_hz", [7, 19, 20, 24, 26, 60, 333])
def test_live_edge_leaves_no_instant_of_the_grid_out_whatever_frames_do(
    rate_hz: int, learns: bool, exposure_us: int
) -> None:
    info = replace(INFO, time_offset_us=None) if learns else INFO  # wants events 10 ms later
    machine = session("window.policy=live_edge", f"plan.rate_hz={rate_hz}", freshest=True, info=info)
    frames = [replace(frame, exposure_end_us=frame.exposure_start_us + exposure_us) for frame in packets.frames(20)]
    stream = packets.in_order(
        frames, packets.cut(packets.events(20_000, 20), range(START_US, START_US + 800_000, 2000))
    )
    asked = np.array([frame.shutter.mid_us for packet in stream for frame in machine.feed([packet])])
    steps = np.round(asked * rate_hz / 1e6)
    assert len(asked) > 0.6 * rate_hz
    assert np.all(np.diff(steps) == 1)
    assert machine.counters.late_windows == 0


@pytest.mark.parametrize("rate_hz", [60, 200, 500, 1000])
def test_live_edge_answers_every_instant_of_the_grid_as_soon_as_the_events_passed_it(rate_hz: int) -> None:
    newest_us, late_us, asked = 0.0, [], []
    machine = session("window.policy=live_edge", f"plan.rate_hz={rate_hz}", freshest=True)
    stream = packets.in_order(
        packets.frames(), packets.cut(packets.events(), range(START_US, START_US + 250_000, 2000))
    )
    for packet in stream:
        if isinstance(packet, EventBatch):
            newest_us = max(newest_us, packet.watermark_us)
        for frame in machine.feed([packet]):
            asked.append(frame.shutter.mid_us)
            late_us.append(newest_us - frame.shutter.mid_us)
    first = round(asked[0] * rate_hz / 1e6)
    assert asked == pytest.approx([k * 1e6 / rate_hz for k in range(first, first + len(asked))])
    assert len(asked) >= 0.17 * rate_hz
    # But for the instants of the first exposure, which waited for their frame.
    steady = [late for late, t_us in zip(late_us, asked, strict=True) if t_us > asked[0] + 30_000]
    assert min(steady) >= 0
    assert max(steady) < 2000


def test_live_edge_with_an_exposure_waits_for_its_end_and_leaves_none_out() -> None:
    exposed = at_live_edge("plan.rate_hz=1000", "plan.exposure_us=3000")
    middles = [frame.shutter.mid_us for frame in exposed]
    assert [b - a for a, b in itertools.pairwise(middles)] == pytest.approx([1000.0] * (len(middles) - 1))
    assert len(exposed) >= 170


@pytest.mark.parametrize("exposure_us", [0, 3000])
def test_live_edge_that_rolls_gives_the_images_of_contents_built_from_nothing(exposure_us: int) -> None:
    overrides = ["window.policy=live_edge", "plan.rate_hz=700", f"plan.exposure_us={exposure_us}"]
    backends = {"anew": Anew(), "rolling": edi.create(packets.GEOMETRY), "ahead": edi.create(packets.GEOMETRY)}
    found = {}
    for name, backend in backends.items():
        machine = Session(load_config(None, overrides), INFO, backend, freshest=True, clock=Clock())
        found[name] = []
        for packet in packets.usual():
            found[name] += fingerprint(list(machine.feed([packet])))
            while name == "ahead" and machine.ahead():
                pass
    assert len(found["anew"]) > 80
    assert found["rolling"] == found["anew"]
    assert found["ahead"] == found["anew"]


def test_live_edge_teaches_the_calibration_once_a_frame() -> None:
    pairs: list[list[int]] = []
    machine = session("window.policy=live_edge", "plan.rate_hz=500", freshest=True)
    machine._learning._calibrator.observe = lambda frames, *_: pairs.append([frame.index for frame in frames])
    for packet in packets.usual():
        list(machine.feed([packet]))
    assert pairs == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]
