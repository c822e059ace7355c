"""Which of a backend's two methods answers: the best while it keeps up with the plan, the fast one meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nire.backends import passthrough
from nire.backends.auto import AutoReconstructor
from stream.config import load_config
from stream.session.session import Session
from tests.stream import packets
from tests.stream.packets import INFO, START_US
from tests.stream.session.test_session import Clock, in_real_time

PERIODS = 200
TO_TRIAL = 32
"""Windows that the fast method answers until the best one is tried again, the first time."""


class Method(passthrough.Passthrough):
    """Takes some milliseconds of the given clock for a build, and none for queries."""

    def __init__(self, name: str, clock: Clock, build_ms: float) -> None:
        """Begin with a cost that tests change."""
        self.name = name
        self.build_ms = build_ms
        self._clock = clock

    def build(self, window):
        self._clock.now_ns += round(1e6 * self.build_ms)
        return super().build(window)


class Stream:
    """A live stream of 25 frames a second that asks for one image a window."""

    def __init__(self, best_ms: float, *, live: bool = True, speed: float = 1.0) -> None:
        """Begin before the first packet of a camera, or of a replay that is slower."""
        self.clock = Clock()
        self.best, self.fast = Method("best", self.clock, best_ms), Method("fast", self.clock, 1.0)
        config = load_config(None, ["plan.rate_hz=25"])
        backend = AutoReconstructor(self.best, self.fast)
        self.speed = speed
        self.told: Callable[[], float] = lambda: speed
        self.session = Session(config, INFO, backend, freshest=live, clock=self.clock, speed=self._told_speed)

    def _told_speed(self) -> float:
        return self.told()

    def answers(self, load: dict[int, float] | None = None) -> dict[int, str]:
        """Run; who answered each window. From window k on a build of the best method takes `load[k]` ms."""
        load = load or {}
        edges = range(START_US, START_US + PERIODS * packets.PERIOD_US, 5000)
        stream = packets.in_order(packets.frames(PERIODS), packets.cut(packets.events(2000, PERIODS), edges))
        names: dict[int, str] = {}
        for frame in in_real_time(self.session, stream, self.clock, self.speed):
            names[frame.window] = frame.backend
            self.best.build_ms = next((ms for k, ms in reversed(load.items()) if frame.window >= k), self.best.build_ms)
        return names


def test_best_method_answers_always_where_it_keeps_up() -> None:
    stream = Stream(best_ms=20)
    assert set(stream.answers().values()) == {"best"}
    assert stream.session.counters.fallback_windows == 0
    assert stream.session.backend_reason == "best keeps up: a window takes it 20 ms, one comes every 40 ms"


def test_one_slow_window_is_borne() -> None:
    assert set(Stream(best_ms=20).answers({10: 100, 11: 20}).values()) == {"best"}


def test_fast_method_answers_where_the_best_does_not_keep_up_and_that_is_told_and_counted() -> None:
    stream = Stream(best_ms=60)
    names = stream.answers()
    by_best = [window for window, name in names.items() if name == "best"]
    # Three windows show it; then it is tried now and again, each time later.
    trials = [window for window in by_best if window > 12]
    assert len([window for window in by_best if window <= 12]) == 3
    assert trials[0] == pytest.approx(TO_TRIAL, abs=8)
    assert len(trials) == 2
    assert trials[1] - trials[0] == pytest.approx(2 * TO_TRIAL, abs=4)
    assert stream.session.counters.fallback_windows == sum(name == "fast" for name in names.values())
    assert stream.session.backend_reason == "best does not keep up: a window takes it 60 ms, one comes every 40 ms"


def test_method_that_is_far_too_slow_is_tried_much_later() -> None:
    names = Stream(best_ms=200).answers()
    trials = [window for window, name in names.items() if name == "best" and window > 20]
    assert len(trials) == 1


def test_best_method_comes_back_when_the_load_is_gone() -> None:
    names = Stream(best_ms=60).answers({20: 15})
    assert names[20] == "fast"
    assert {names[window] for window in names if window > 20 + TO_TRIAL} == {"best"}


def test_method_that_only_just_keeps_up_on_trial_does_not_come_back() -> None:
    names = Stream(best_ms=60).answers({20: 36})
    assert sum(name == "best" for window, name in names.items() if window > 20) <= 3


def test_where_nothing_must_keep_time_the_best_method_answers_however_slow() -> None:
    stream = Stream(best_ms=500, live=False)
    assert set(stream.answers().values()) == {"best"}
    assert stream.session.backend_reason == ""


def test_what_comes_ahead_goes_to_the_method_in_force() -> None:
    class Ahead(Method):
        asked = 0

        def ahead(self, window):
            self.asked += 1
            return False

    clock = Clock()
    best, fast = Ahead("best", clock, 1), Ahead("fast", clock, 1)
    backend = AutoReconstructor(best, fast)
    window = next(iter(Stream(1).session.windows(packets.usual())))
    backend.ahead(window)
    backend.falls_back = True
    backend.ahead(window)
    assert (best.asked, fast.asked) == (1, 1)
    backend.build(window)
    assert backend.name == "fast"


def test_slow_replay_gives_the_best_method_its_time() -> None:
    """A window takes 100 ms; of the camera one came every 40 ms, at a quarter of the speed one every 160 ms."""
    assert set(Stream(best_ms=100, speed=0.25).answers().values()) == {"best"}
    assert "fast" in Stream(best_ms=100).answers().values()


def test_best_method_is_tried_at_once_where_a_replay_is_slowed_down() -> None:
    """Without a word of the speed the trial after 32 windows fails, and the next one is far off."""
    stream = Stream(best_ms=100)
    slowed_ns = stream.clock.now_ns + 100 * packets.PERIOD_US * 1000
    stream.told = lambda: 0.1 if stream.clock.now_ns > slowed_ns else 1.0
    names = stream.answers()
    assert {names[k] for k in range(60, 95) if k in names} == {"fast"}
    assert {names[k] for k in range(105, PERIODS - 1) if k in names} == {"best"}


def test_trial_is_not_put_off_for_longer_than_some_minutes() -> None:
    """At two windows a second, as many as a fast camera waits for would be more than an hour."""
    stream = Stream(best_ms=5000, speed=0.08)
    stream.answers()
    assert stream.session._fallback._until_trial <= 600
