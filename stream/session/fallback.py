"""Which method answers live: a backend's best one while it keeps up with the plan, its fast one meanwhile.

Only streams that must keep time choose. What each costs is measured window by window; a method that fell behind is
tried again later, and later still each time it fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from nire.types import ContentWindow, FallsBack, Reconstructor
from stream.session.budget import Budget, period_ns
from stream.windows.cut import Cut

# So many windows in a row must be too slow: one may be so because the machine did something else.
_STRIKES = 3
# Windows until the best method is tried again. Each trial that fails makes them so many times as many; the second
# number is for a method that took over twice the time that there was: such a trial costs several windows.
_FIRST_TRIAL, _LAST_TRIAL = 32, 8192
_LATER, _MUCH_LATER, _FAR_OVER = 2, 16, 2.0
# A trial does not wait longer than this either, where windows are slow to come.
_LONGEST_WAIT_NS = 300e9
# Where so much less is asked of the best method than when it fell back, it is tried at once.
_LESS = 0.6
# Of the time from one window to the next, what a trial may take: less than what is borne, lest it goes to and fro.
_ROOM = 0.8

_log = logging.getLogger(__name__)


class Fallback:
    """Says whether a backend's next window is built by its fast method; a backend of one method has no choice."""

    def __init__(
        self,
        reconstructor: Reconstructor,
        *,
        live: bool,
        share: Callable[[], float] = lambda: 1.0,
        speed: Callable[[], float] = lambda: 1.0,
        at_once: Callable[[], int] = lambda: 1,
    ) -> None:
        """Begin with the best method.

        Args:
            reconstructor: any.
            live: the stream must keep time; otherwise the best method answers always.
            share: tells what part of the time there is, in (0, 1]; others take the rest.
            speed: tells how fast the device's time goes, 1 = as fast as time, > 0: a replay may be slower.
            at_once: tells how many windows can be answered beside one another.
        """
        self.windows = 0
        self.is_in_force = False
        """The fast method builds the next window."""
        self._share, self._most_at_once = share, at_once
        self._speed = speed
        self._has_choice = live and isinstance(reconstructor, FallsBack)
        self._name = reconstructor.name
        self._best, self._fast = (Budget(self._of_device_time, at_once) for _ in range(2))
        self._needed_ns = self._period_ns = 0.0
        self._load = 0.0
        """Images a second of real time that were asked for when the best method fell back."""
        self._strikes = 0
        self._on_trial = False
        self._wait = self._until_trial = _FIRST_TRIAL

    def _of_device_time(self) -> float:
        """Tell what part there is of the device's time: more than all of it where a replay is slow."""
        return self._share() / self._speed()

    @property
    def budget(self) -> Budget:
        """What the method in force costs."""
        return self._fast if self.is_in_force else self._best

    @property
    def reason(self) -> str:
        """Why the method in force answers; "" where there is no choice, or nothing is known yet."""
        if not self._has_choice or not self._needed_ns:
            return ""
        verdict = "does not keep up" if self.is_in_force else "keeps up"
        needed, period = self._needed_ns / 1e6, self._period_ns / 1e6
        there = f"one comes every {period:.0f} ms"
        if self._share() < 1:
            there = f"beside the other cameras there are {period:.0f} ms for one"
        elif self._best.at_once > 1:
            there = f"{self._best.at_once} are made at once, and {there}"
        return f"{self._name} {verdict}: a window takes it {needed:.0f} ms, {there}"

    def choose(self, window: ContentWindow, wanted: int, cut: Cut) -> None:
        """Choose the method of a window, before it is built.

        Args:
            window: complete.
            wanted: how many queries the plan asks of it.
            cut: how it was cut.
        """
        if not self._has_choice or wanted == 0:
            return
        there_ns = self._of_device_time() * period_ns(window, cut)
        load = wanted / there_ns
        if self.is_in_force:
            self._until_trial -= 1
            if 0 < load < _LESS * self._load:
                self._until_trial, self._wait = 0, _FIRST_TRIAL
            if self._until_trial <= 0:
                # What it cost under another load counts no more.
                self._best = Budget(self._of_device_time, self._most_at_once)
                self._on_trial, self.is_in_force = True, False
        elif self._best.is_known:
            self._period_ns = there_ns
            self._needed_ns = self._best.newest_ns(wanted)
            self._judge(load)
        self.windows += self.is_in_force

    def _judge(self, load: float) -> None:
        room = self._best.at_once * (_ROOM if self._on_trial else 1.0)
        if self._needed_ns <= room * self._period_ns:
            if self._on_trial:
                self._on_trial, self._wait = False, _FIRST_TRIAL
                _log.warning("%s again: %s", self._name, self.reason)
            self._strikes = 0
            return
        self._strikes += 1
        if self._on_trial or self._strikes == _STRIKES:
            self.is_in_force = True
            self._load = load
            self._strikes, self._until_trial = 0, max(_FIRST_TRIAL, min(self._wait, _windows_in(self._period_ns)))
            far_over = self._needed_ns > _FAR_OVER * self._best.at_once * self._period_ns
            self._wait = min((_MUCH_LATER if far_over else _LATER) * self._wait, _LAST_TRIAL)
            if not self._on_trial:
                _log.warning("falls back to its fast method: %s", self.reason)
            self._on_trial = False


def _windows_in(period_ns: float) -> int:
    """Windows that come in the longest time that a trial waits."""
    return int(_LONGEST_WAIT_NS / period_ns) if period_ns > 0 else _LAST_TRIAL
