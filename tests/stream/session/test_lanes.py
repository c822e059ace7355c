"""Windows answered beside one another: the same images in the same order, and nobody waits for ever."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from nire.backends import edi, passthrough
from nire.backends.auto import AutoReconstructor
from nire.engines import Job
from nire.explicit.engines import EagerCleaner
from nire.explicit.evidence import Evidence
from nire.explicit.reconstructor import ExplicitReconstructor
from nire.shutter import Shutter
from nire.types import ContentWindow, ExposedFrame, Packet, Reconstructor
from stream.config import load_config
from stream.session.budget import Budget
from stream.session.session import Session
from tests.nire.explicit.inputs import TINY, trained_a_little
from tests.stream import packets
from tests.stream.packets import GEOMETRY, INFO, PERIOD_US, START_US

LIMIT_S = 60.0
"""After which a test gives up that would wait for ever."""
CPU = torch.device("cpu")


class Uneven(EagerCleaner):
    """Every other window takes longer than the one after it."""

    def __init__(self, network: object, job: Job) -> None:
        super().__init__(network, job)  # type: ignore[arg-type]
        self.calls = 0

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        self.calls += 1
        threading.Event().wait(0.02 * (self.calls % 2))
        return super().__call__(evidence)


def explicit() -> ExplicitReconstructor:
    job = Job(*TINY.padded(GEOMETRY.height, GEOMETRY.width), (2,), CPU, "fp32")
    return ExplicitReconstructor(GEOMETRY, Uneven(trained_a_little(), job), TINY, job=job, bin_us=500)


BACKENDS: dict[str, Callable[[], Reconstructor]] = {
    "edi": lambda: edi.create(GEOMETRY, "cpu"),
    "neural": explicit,
    "auto": lambda: AutoReconstructor(explicit(), edi.create(GEOMETRY, "cpu")),
    "passthrough": lambda: passthrough.create(GEOMETRY),
}


def session(backend: Reconstructor, *overrides: str, at_once: int = 2, freshest: bool = False) -> Session:
    config = load_config(None, ["plan.rate_hz=1000", *overrides])
    return Session(config, INFO, backend, freshest=freshest, clock=lambda: 0, at_once=at_once)


def told(frames: list[ExposedFrame]) -> list[tuple[object, ...]]:
    return [(f.index, f.window, f.shutter.mid_us, f.backend, f.unanswered, f.pixels.tobytes()) for f in frames]


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
@pytest.mark.parametrize("plan", ["upsample", "deblur"])
def test_images_are_those_of_one_window_after_the_other(backend: Callable[[], Reconstructor], plan: str) -> None:
    def streamed(at_once: int, stream: list[Packet]) -> list[tuple[object, ...]]:
        machine = session(backend(), f"plan.name={plan}", at_once=at_once)
        frames = [frame for packet in stream for frame in machine.feed([packet])]
        return told([*frames, *machine.finish()])

    expected = streamed(1, packets.usual())
    assert len(expected) >= 6
    assert streamed(2, packets.usual()) == expected
    assert streamed(2, list(packets.interleaved(3))) == expected


class Beside(passthrough.Passthrough):
    """Passes through; copies of it may work beside one another."""

    works_beside = True

    def expect(self, window: ContentWindow) -> None:
        assert isinstance(window, ContentWindow)


@dataclass
class Met(Beside):
    """Builds no window before another one is being built too; the last ones are let through."""

    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=LIMIT_S))

    def beside(self) -> Met:
        return Met(self.meeting)

    def build(self, window):
        if window.index < 4:
            self.meeting.wait()
        return super().build(window)


def test_two_windows_are_built_at_the_same_time() -> None:
    machine = session(Met())
    frames = [*machine.feed(packets.usual()), *machine.finish()]
    assert [f.index for f in frames] == sorted(f.index for f in frames)
    assert {f.window for f in frames} >= set(range(5))


@dataclass
class Held(Beside):
    """Builds nothing before it is let go, but what is built by the thread that made it."""

    go: threading.Event = field(default_factory=threading.Event)
    maker: int = field(default_factory=threading.get_ident)
    builders: list[int] = field(default_factory=list)

    def beside(self) -> Held:
        return Held(self.go, self.maker, self.builders)

    def build(self, window):
        self.builders.append(threading.get_ident())
        if threading.get_ident() != self.maker:
            assert self.go.wait(LIMIT_S)
        return super().build(window)


def test_packets_are_taken_and_windows_that_come_too_late_counted_while_others_are_being_built() -> None:
    backend = Held()
    machine = session(backend, freshest=True)
    early = [frame for packet in packets.usual() for frame in machine.feed([packet])]
    assert early == []
    assert machine.is_busy
    assert machine.is_full
    assert machine.counters.windows == 2
    backend.go.set()
    frames = []
    while machine.is_busy:
        frames += machine.feed([])
    assert not machine.is_full
    assert machine.counters.late_windows > 0
    frames += machine.finish()
    # Each image of the plan was handed out or is a hole that was counted.
    missing = set(range(frames[-1].index + 1)) - {frame.index for frame in frames}
    assert machine.counters.unanswered == len(missing) > 0
    assert {frame.window for frame in frames} >= {0, 1}


def test_who_waits_for_images_has_them_as_soon_as_they_are_there() -> None:
    backend = Held()
    machine = session(backend, freshest=True)
    for packet in packets.usual():
        assert list(machine.feed([packet])) == []
    assert machine.is_full
    began_s = time.monotonic()
    machine.wait(0.05)  # they are not
    assert time.monotonic() - began_s >= 0.05
    assert list(machine.feed([])) == []
    threading.Timer(0.05, backend.go.set).start()
    frames: list[ExposedFrame] = []
    while not frames:
        machine.wait(LIMIT_S)
        frames += machine.feed([])
    assert time.monotonic() - began_s < LIMIT_S
    assert frames[0].index == 0


def test_what_is_asked_beside_the_plan_does_not_wait_for_it() -> None:
    backend = Held()
    machine = session(backend, freshest=True)
    for packet in packets.usual():
        assert list(machine.feed([packet])) == []
    shutter = Shutter.instant(START_US + 0.5 * PERIOD_US, GEOMETRY.height)
    assert machine.ask(shutter, "asked").tag == "asked"
    backend.go.set()
    assert {frame.tag for frame in machine.finish()} == {"upsample"}


def test_live_edge_is_answered_by_its_caller_one_window_after_the_other() -> None:
    backend = Held()
    machine = session(backend, "window.policy=live_edge", freshest=True)
    frames = [frame for packet in packets.usual() for frame in machine.feed([packet])]
    assert frames
    assert set(backend.builders) == {backend.maker}


class Failing(EagerCleaner):
    """Fails for the third window."""

    calls = 0

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        Failing.calls += 1
        if Failing.calls == 3:
            raise RuntimeError("third window")
        return super().__call__(evidence)


def test_failure_of_a_window_reaches_the_caller_and_holds_nobody() -> None:
    Failing.calls = 0
    job = Job(*TINY.padded(GEOMETRY.height, GEOMETRY.width), (2,), CPU, "fp32")
    backend = ExplicitReconstructor(GEOMETRY, Failing(trained_a_little(), job), TINY, job=job, bin_us=500)
    machine = session(backend)
    seen: list[int] = []
    with pytest.raises(RuntimeError, match="third window"):
        seen += (frame.window for frame in itertools.chain(machine.feed(packets.usual()), machine.finish()))
    assert set(seen) == {0, 1}


def test_frame_that_cannot_be_decoded_holds_nobody_either() -> None:
    class Unreadable(ExplicitReconstructor):
        def _light_of(self, frames):
            if frames[0].index == 1:
                raise RuntimeError("second frame")
            return super()._light_of(frames)

    job = Job(*TINY.padded(GEOMETRY.height, GEOMETRY.width), (2,), CPU, "fp32")
    backend = Unreadable(GEOMETRY, EagerCleaner(trained_a_little(), job), TINY, job=job, bin_us=500)
    windows = list(session(passthrough.create(GEOMETRY)).windows(packets.usual()))
    for window in windows:
        backend.expect(window)
    built: list[int] = []

    def build_the_others() -> None:
        for window in (windows[0], windows[2]):
            backend.build(window)
            built.append(window.index)

    with pytest.raises(RuntimeError, match="second frame"):
        backend.build(windows[1])
    others = threading.Thread(target=build_the_others, daemon=True)
    others.start()
    others.join(LIMIT_S)
    assert built == [0, 2]


def test_method_that_stands_back_does_not_answer_before_windows_it_was_told_of() -> None:
    """Which of two methods answers is said of each window; a copy that builds at the moment is left as it is."""

    class Slow(Beside):
        def __init__(self, name: str) -> None:
            self.name = name

        def beside(self) -> Slow:
            return Slow(self.name)

    backend = AutoReconstructor(Slow("best"), Slow("fast"))
    machine = session(backend)
    frames = []
    for n, packet in enumerate(packets.usual()):
        machine._fallback.is_in_force = n % 2 == 0
        frames += machine.feed([packet])
    frames += machine.finish()
    names = {frame.window: frame.backend for frame in frames}
    assert len(names) > 3
    assert all(len({f.backend for f in frames if f.window == w}) == 1 for w in names)


@pytest.mark.parametrize("seed", range(5))
def test_how_many_windows_are_answered_at_once_may_change_at_any_time(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(Budget, "at_once", property(lambda _: rng.choice([1, 2])))
    monkeypatch.setattr(Budget, "is_quick", lambda *_, **__: rng.random() < 0.5)
    machine = session(AutoReconstructor(explicit(), edi.create(GEOMETRY, "cpu")), freshest=True)
    frames = []
    for packet in packets.interleaved(seed):
        machine._fallback.is_in_force = rng.random() < 0.5
        frames += machine.feed([packet])
    frames += machine.finish()
    indices = [frame.index for frame in frames]
    assert indices == sorted(indices)
    assert machine.counters.unanswered == len(set(range(indices[-1] + 1)) - set(indices))
    assert {frame.backend for frame in frames} == {"edi", "neural"}


def test_images_that_nobody_takes_are_not_made_without_end() -> None:
    made: list[int] = []

    class Counting(Beside):
        def beside(self) -> Counting:
            return Counting()

        def expose(self, content, queries):
            made.append(len(queries))
            return super().expose(content, queries)

    import stream.session.lanes as lanes

    few = 3 * 8 * GEOMETRY.height * GEOMETRY.width * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "_WAITING_BYTES", few)
        machine = session(Counting(), "plan.rate_hz=20000")
        first = next(machine.feed(packets.usual()))
    # Of 800 a window: those of the first batches of two windows, and what was made since the first was taken.
    assert sum(made) <= 2 * 8 * 5
    assert first.index == 0
    frames = [first, *machine.finish()]
    assert np.diff([frame.index for frame in frames]).max() >= 1


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_is_asked_between_two_images_changes_none_of_them(at_once: int) -> None:
    """A method of one content builds the window again that it was at."""
    expected = told(list(session(explicit(), at_once=1).feed(packets.usual())))
    machine = session(explicit(), at_once=at_once)
    frames = []
    for frame in itertools.chain(machine.feed(packets.usual()), machine.finish()):
        frames.append(frame)
        if frame.index % 5 == 0:
            assert machine.covered_us is not None
            shutter = Shutter.instant(machine.covered_us[0] + 1000.0, GEOMETRY.height)
            assert machine.ask(shutter, "asked").tag == "asked"
    assert told(frames)[: len(expected)] == expected


def test_method_that_works_at_one_window_at_a_time_is_asked_between_two_images() -> None:
    machine = session(passthrough.create(GEOMETRY))
    for frame in machine.feed(packets.usual()):
        assert machine.ask(frame.shutter, "asked").pixels.tobytes() == frame.pixels.tobytes()


def test_where_nothing_is_gained_windows_are_answered_one_after_the_other() -> None:
    backend = Held()
    backend.works_beside = False
    machine = session(backend)
    frames = [*machine.feed(packets.usual()), *machine.finish()]
    assert frames
    assert set(backend.builders) == {backend.maker}
