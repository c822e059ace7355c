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
# Of the time from one window to the next, what a trial may take: less than what is borne, lest it goes to and fro.
_ROOM = 0.8

_log = logging.getLogger(__name__)


class Fallback:
    """Sets a backend's `falls_back` by what its windows cost; leaves a backend of one method alone."""

    def __init__(self, reconstructor: Reconstructor, *, live: bool, share: Callable[[], float] = lambda: 1.0) -> None:
        """Begin with the best method.

        Args:
            reconstructor: any.
            live: the stream must keep time; otherwise the best method answers always.
            share: tells what part of the time there is, in (0, 1]; others take the rest.
        """
        self._share = share
        self.windows = 0
        self._backend = reconstructor if live and isinstance(reconstructor, FallsBack) else None
        self._name = reconstructor.name
        self._best, self._fast = Budget(share), Budget(share)
        self._needed_ns = self._period_ns = 0.0
        self._strikes = 0
        self._on_trial = False
        self._wait = self._until_trial = _FIRST_TRIAL

    @property
    def budget(self) -> Budget:
        """What the method in force costs."""
        return self._fast if self._backend is not None and self._backend.falls_back else self._best

    @property
    def reason(self) -> str:
        """Why the method in force answers; "" where there is no choice, or nothing is known yet."""
        if self._backend is None or not self._needed_ns:
            return ""
        verdict = "does not keep up" if self._backend.falls_back else "keeps up"
        needed, period = self._needed_ns / 1e6, self._period_ns / 1e6
        there = f"one comes every {period:.0f} ms"
        if self._share() < 1:
            there = f"beside the other cameras there are {period:.0f} ms for one"
        return f"{self._name} {verdict}: a window takes it {needed:.0f} ms, {there}"

    def choose(self, window: ContentWindow, wanted: int, cut: Cut) -> None:
        """Choose the method of a window, before it is built.

        Args:
            window: complete.
            wanted: how many queries the plan asks of it.
            cut: how it was cut.
        """
        if self._backend is None or wanted == 0:
            return
        if self._backend.falls_back:
            self._until_trial -= 1
            if self._until_trial == 0:
                # What it cost under another load counts no more.
                self._best, self._on_trial, self._backend.falls_back = Budget(self._share), True, False
        elif self._best.is_known:
            self._period_ns = self._share() * period_ns(window, cut)
            self._needed_ns = self._best.newest_ns(wanted)
            self._judge(self._backend)
        self.windows += self._backend.falls_back

    def _judge(self, backend: FallsBack) -> None:
        room = _ROOM if self._on_trial else 1.0
        if self._needed_ns <= room * self._period_ns:
            if self._on_trial:
                self._on_trial, self._wait = False, _FIRST_TRIAL
                _log.warning("%s again: %s", self._name, self.reason)
            self._strikes = 0
            return
        self._strikes += 1
        if self._on_trial or self._strikes == _STRIKES:
            backend.falls_back = True
            self._strikes, self._until_trial = 0, self._wait
            far_over = self._needed_ns > _FAR_OVER * self._period_ns
            self._wait = min((_MUCH_LATER if far_over else _LATER) * self._wait, _LAST_TRIAL)
            if not self._on_trial:
                _log.warning("falls back to its fast method: %s", self.reason)
            self._on_trial = False
