"""Fixtures of the drivers' tests: a clock of their own."""

from __future__ import annotations

import time

import pytest


class SleepClock:
    """Time that passes only while somebody sleeps: what is done in between takes none, on any machine."""

    def __init__(self) -> None:
        self.now_ns = 10**9
        self.waits_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.waits_s.append(seconds)
        self.now_ns += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SleepClock:
    """The clock that the module `time` tells and sleeps by."""
    clock = SleepClock()
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now_ns * 1e-9)
    monkeypatch.setattr(time, "monotonic_ns", lambda: clock.now_ns)
    return clock
