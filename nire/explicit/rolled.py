"""What windows of a stream go on from: each the end of one before it, in one thread or built beside one another."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from weakref import WeakKeyDictionary

from torch import Tensor

from nire.types import ContentWindow, Frame

MOST_AGE = 16
"""Windows that a rolled witness goes back, as far as the network is told."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What a window ended with: the rolling content, as far as the next window needs it.

    Attributes:
        light: float32 [H, W], luma of its last plane, linear levels.
        t_us: frame time of that plane.
        age: windows that it goes back, 1 or more.
    """

    light: Tensor
    t_us: float
    age: int


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """How a window will have ended.

    Attributes:
        frame: the window's last one, with which the next window begins.
        past: is there when the window has been built.
    """

    frame: Frame
    past: Future[Past | None]

    def leads_to(self, window: ContentWindow) -> bool:
        """Tell whether a window goes on from here: nothing is missing between, and the clock is the same."""
        return len(window.frames) == 2 and window.frames[0] is self.frame and not window.gaps


class Rolled:
    """Says for each window what it goes on from: the same every time that it is built, whoever builds it."""

    def __init__(self) -> None:
        """Begin with no window."""
        self._lock = Lock()
        # The next window goes on from the newest end, or, where it has the same frames as the newest one, from what
        # that went on from.
        self._ends: tuple[_End | None, _End | None] = (None, None)
        self._befores: WeakKeyDictionary[ContentWindow, _End | None] = WeakKeyDictionary()
        self._owed: WeakKeyDictionary[ContentWindow, _End] = WeakKeyDictionary()

    def expect(self, window: ContentWindow) -> None:
        """Fix what a window goes on from; in the order of windows, each before it is built. Again: nothing changes."""
        with self._lock:
            if window in self._befores:
                return
            before = next((end for end in self._ends if end is not None and end.leads_to(window)), None)
            self._befores[window] = before
            if len(window.frames) == 2:
                end = self._owed[window] = _End(window.frames[1], Future())
                self._ends = end, before

    @contextmanager
    def building(self, window: ContentWindow) -> Iterator[None]:
        """Expect a window, if that was not done, and leave nobody waiting for it, however its build ends."""
        self.expect(window)
        try:
            yield
        finally:
            self.built(window, None)

    def before(self, window: ContentWindow) -> Past | None:
        """Give what an expected window goes on from, once it is there; None where it begins anew."""
        with self._lock:
            end = self._befores[window]
        return None if end is None else end.past.result()

    def built(self, window: ContentWindow, light: Tensor | None, t_us: float = 0.0) -> None:
        """Take how a window has ended; the first time counts.

        Args:
            window: expected.
            light: as of `Past`, to be kept; None = it could not be built, and the next one begins anew.
            t_us: as of `Past`.
        """
        with self._lock:
            end = self._owed.pop(window, None)
        if end is None:
            return
        if light is None:
            end.past.set_result(None)
            return
        past = self.before(window)
        end.past.set_result(Past(light, t_us, 1 if past is None else min(past.age + 1, MOST_AGE)))
