"""Policy `single`: one window a frame, with its own exposure and what is asked just after it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nire.types import ContentWindow, Frame
from stream.windows.held import Held


def create(held: Held) -> Single:
    """Begin before the first frame."""
    return Single(held)


class Single:
    """Cuts a window as soon as the events of a frame's exposure are there."""

    frames_begun = 1

    def __init__(self, held: Held) -> None:
        """Cut from what is held."""
        self._held = held

    def take_over(self) -> None:
        """Begin with the next frame."""

    def following(self) -> ContentWindow | None:
        """Cut the first frame's window once its events are there."""
        held = self._held
        if not held.frames or not held.is_past(held.frames[0].last_us + held.cut.reach_us):
            return None
        return self._window(held.cut.reach_us)

    def remaining(self) -> Iterator[ContentWindow]:
        """Cut the windows of all frames that are left."""
        while self._held.frames:
            yield self._window(self._held.cut.margin_us)

    def expected_us(self, frames: tuple[Frame, ...]) -> int:
        """The exposure's end, and the reach after it."""
        return math.floor(frames[-1].last_us) + self._held.cut.reach_us + self._held.guard_us[1]

    def needed_us(self) -> float:
        """From the last frame on: it may be paired with the next one for calibration."""
        return self._held.oldest_us()

    def _window(self, after_us: int) -> ContentWindow:
        held, frame = self._held, self._held.frames[0]
        window = held.window(
            (frame,),
            after_us=after_us,
            index=held.count(),
            answers_us=(frame.first_us, np.nextafter(frame.last_us, np.inf)),
        )
        held.partner = held.previous
        held.retire()
        return window
