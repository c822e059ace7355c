"""Work on the next window before it is complete, a little at a time, so that no finished window waits for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nire.types import ContentWindow, Reconstructor, WorksAhead

# What is new, for a piece of work: less is not worth its calls, and more events would take over a millisecond.
_PIECE_US = 8000
_PIECE_EVENTS = 50_000


class Ahead:
    """What a backend was given ahead; one that is no `WorksAhead` is left alone."""

    def __init__(self, reconstructor: Reconstructor) -> None:
        """Begin with nothing done."""
        self._begin = reconstructor.ahead if isinstance(reconstructor, WorksAhead) else None
        self._done: ContentWindow | None = None
        self._built: ContentWindow | None = None
        self._unfinished = False

    @property
    def is_offered(self) -> bool:
        """The backend can work ahead."""
        return self._begin is not None

    def step(self, window: ContentWindow) -> bool:
        """Do a piece of the work for a window, given as far as it has arrived; False where nothing is to be done.

        A window that extends the present one by less than a piece is left to its build.
        """
        built, done = _if_alike(self._built, window), _if_alike(self._done, window)
        if self._begin is None or (built is not None and not _is_piece(built, window)):
            return False
        if done is None or done.frames != window.frames or _is_piece(done, window):
            done = self._done = _shortened(window, 0 if done is None else len(done.events))
        elif not self._unfinished:
            return False
        else:
            done = self._done or done
        self._unfinished = self._begin(done)
        return True

    def has_begun(self, window: ContentWindow) -> bool:
        """Tell whether some of a window was done."""
        return _if_alike(self._done, window) is not None

    def took(self, window: ContentWindow) -> bool:
        """Tell whether a window that is built now was begun ahead; to be told of each that is built."""
        done = _if_alike(self._done, window)
        begun = done is not None and done.t1_us <= window.t1_us
        if begun:
            # The backend goes on with what was begun; what it has beside that is the content before.
            self._done = self._built
        self._built = window
        return begun


def _if_alike(known: ContentWindow | None, window: ContentWindow) -> ContentWindow | None:
    """Give a known window, if it begins as another one does."""
    if known is None or known.t0_us != window.t0_us or known.frames[:1] != window.frames[:1]:
        return None
    return known if known.calibration.says_the_same_as(window.calibration) else None


def _is_piece(earlier: ContentWindow, window: ContentWindow) -> bool:
    """Tell whether a window has so much more than an earlier state of it that it is worth a piece of work."""
    return window.t1_us >= earlier.t1_us + _PIECE_US or len(window.events) >= len(earlier.events) + _PIECE_EVENTS


def _shortened(window: ContentWindow, known: int) -> ContentWindow:
    """Shorten a window to the events that are known and a piece more."""
    events = window.events
    if len(events) <= known + _PIECE_EVENTS:
        return window
    t1_us = int(events.t_us[known + _PIECE_EVENTS]) + 1
    return replace(window, t1_us=t1_us, events=events.part(slice(int(np.searchsorted(events.t_us, t1_us)))))
