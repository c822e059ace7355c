"""A content that rolls from window to window: the same packets give the same images, whoever asks, in any order."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch

from nire.backends import passthrough
from nire.engines import Job
from nire.explicit.engines import EagerCleaner
from nire.explicit.reconstructor import ExplicitReconstructor
from nire.types import ContentWindow, Frame, Gap, Packet
from stream.config import load_config
from stream.session.plan import queries_of
from stream.session.session import Session
from tests.nire.explicit.inputs import TINY, trained_a_little
from tests.stream import packets
from tests.stream.packets import GEOMETRY, INFO, PERIOD_US, START_US
from tests.stream.session.test_session import Clock

CONFIG = load_config(None, ["plan.rate_hz=100", "reconstructor.contrast_threshold=[0.2,0.2]"])


def reconstructor() -> ExplicitReconstructor:
    job = Job(*TINY.padded(GEOMETRY.height, GEOMETRY.width), (2,), torch.device("cpu"), "fp32")
    return ExplicitReconstructor(GEOMETRY, EagerCleaner(trained_a_little(), job), TINY, job=job, bin_us=500)


def session() -> Session:
    return Session(CONFIG, INFO, reconstructor(), freshest=False, clock=Clock())


Images = dict[tuple[int, float], bytes]


def streamed(stream: Sequence[Packet]) -> Images:
    machine = session()
    frames = [*machine.feed(stream), *machine.finish()]
    return {(frame.window, frame.shutter.mid_us): frame.pixels.tobytes() for frame in frames}


def asked_later(machine: Session, windows: Sequence[ContentWindow]) -> Images:
    """Ask one window after the other, all of the plan's shutters."""
    return {
        (window.index, query.shutter.mid_us): machine.ask_of(window, query.shutter, "later").pixels.tobytes()
        for window in windows
        for query in queries_of(window, CONFIG.plan)
    }


def test_images_are_those_of_the_stream_in_whatever_order_windows_are_asked() -> None:
    expected = streamed(packets.usual())
    assert len(expected) > 15
    machine = session()
    windows = list(machine.windows(packets.usual()))
    for seed in range(3):
        random.Random(seed).shuffle(windows)
        assert asked_later(machine, windows) == expected


def test_windows_that_nobody_asks_are_part_of_the_content_all_the_same() -> None:
    expected = streamed(packets.usual())
    machine = session()
    last = list(machine.windows(packets.usual()))[-1]
    assert asked_later(machine, [last]).items() <= expected.items()


def test_what_came_before_matters() -> None:
    machine, fresh = session(), session()
    *_, last = machine.windows(packets.usual())
    with_past, without = asked_later(machine, [last]), asked_later(fresh, [last])
    assert with_past.keys() == without.keys()
    assert with_past != without


def test_gap_forgets() -> None:
    gap = Gap(START_US + 2 * PERIOD_US + 25_000, START_US + 2 * PERIOD_US + 30_000, "lost")
    stream: list[Packet] = []
    for packet in packets.usual():
        if isinstance(packet, Frame) and packet.index == 3:
            stream.append(gap)
        stream.append(packet)
    machine, fresh = session(), session()
    windows = list(machine.windows(stream))
    broken = next(window for window in windows if window.gaps)
    assert asked_later(machine, [broken]) == asked_later(fresh, [broken])
    after = windows[windows.index(broken) + 1]
    assert asked_later(machine, [after]) == asked_later(fresh, [after])  # which goes on from the same


def test_plan_that_asks_nothing_of_a_window_does_not_break_the_chain() -> None:
    seldom = CONFIG.model_copy(update={"plan": CONFIG.plan.model_copy(update={"rate_hz": 8.0})})
    machine = Session(seldom, INFO, reconstructor(), freshest=False, clock=Clock())
    found = {(f.window, f.shutter.mid_us): f for f in [*machine.feed(packets.usual()), *machine.finish()]}
    assert len({window for window, _ in found}) < 3
    full = session()
    windows = {window.index: window for window in full.windows(packets.usual())}
    for (window, _), frame in found.items():
        again = full.ask_of(windows[window], frame.shutter, "again")
        assert np.array_equal(frame.pixels, again.pixels)


def test_backend_that_only_says_that_it_rolls_is_given_all_windows_in_order() -> None:
    class Rolling(passthrough.Passthrough):
        rolls = True

        def __init__(self) -> None:
            self.built: list[int] = []

        def build(self, window):
            self.built.append(window.t0_us)
            return super().build(window)

    seldom = CONFIG.model_copy(update={"plan": CONFIG.plan.model_copy(update={"rate_hz": 8.0})})
    backend = Rolling()
    machine = Session(seldom, INFO, backend, freshest=False, clock=Clock(), at_once=2)
    frames = [*machine.feed(packets.usual()), *machine.finish()]
    assert len({frame.window for frame in frames}) < len(backend.built)
    assert len(backend.built) == machine.counters.windows
    assert backend.built == sorted(backend.built)
