"""Work on the next window before it is complete, a little at a time, so that no finished window waits for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nire.types import ContentWindow, Reconstructor

# Of the stream, for each piece of work: about a millisecond at the peak rate that rings are made for.
_PIECE_US = 4000


class Ahead:
    """What a backend was given ahead. One without a method `ahead` is left alone."""

    def __init__(self, reconstructor: Reconstructor) -> None:
        """Begin with nothing done."""
        self._begin = getattr(reconstructor, "ahead", None)
        self._done: ContentWindow | None = None

    @property
    def is_offered(self) -> bool:
        """The backend can work ahead."""
        return self._begin is not None

    def step(self, window: ContentWindow) -> bool:
        """Do a piece of the work for a window, given as far as it has arrived; False where nothing is to be done."""
        done = self._done if self._done is not None and _begin_alike(self._done, window) else None
        from_us = window.t0_us if done is None else done.t1_us
        if self._begin is None or (window.t1_us <= from_us and done is not None and done.frames == window.frames):
            return False
        self._done = _until(window, min(window.t1_us, from_us + _PIECE_US))
        self._begin(self._done)
        return True

    def has_begun(self, window: ContentWindow) -> bool:
        """Tell whether a window that is built now was begun ahead."""
        done = self._done
        return done is not None and done.t1_us <= window.t1_us and _begin_alike(done, window)


def _begin_alike(one: ContentWindow, other: ContentWindow) -> bool:
    return (
        one.t0_us == other.t0_us
        and one.frames[:1] == other.frames[:1]
        and one.calibration.says_the_same_as(other.calibration)
    )


def _until(window: ContentWindow, t1_us: int) -> ContentWindow:
    """Shorten a window."""
    events = window.events
    part = slice(0, int(np.searchsorted(events.t_us, t1_us)))
    shorter = replace(events, t_us=events.t_us[part], x=events.x[part], y=events.y[part], p=events.p[part])
    return replace(window, t1_us=t1_us, events=shorter)
