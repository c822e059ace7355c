"""Policy `pair`: one window from each frame to the next; a frame without a neighbour in time answers alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nire.types import ContentWindow, Frame
from stream.windows.held import Held, are_near

# A frame may come this much earlier after the one before it than that one did.
_UNSTEADY_US = 2000


def create(held: Held) -> Pair:
    """Begin before the first frame."""
    return Pair(held)


class Pair:
    """Cuts a window as soon as the events of the second frame's exposure are there; each answers [mid, mid)."""

    frames_begun = 2

    def __init__(self, held: Held) -> None:
        """Cut from what is held."""
        self._held = held
        self._paired = False
        """The first frame that waits was the second of the window before."""

    def take_over(self) -> None:
        """Begin with the frame that was answered last: what follows its middle is asked of a pair."""
        self._paired = self._held.previous is not None
        if self._held.previous is not None:
            self._held.frames.appendleft(self._held.previous)

    def following(self) -> ContentWindow | None:
        """Cut the window of the first two frames once their events are there."""
        held = self._held
        if len(held.frames) < 2 or not held.is_past(held.frames[1].last_us + held.cut.reach_us):
            return None
        first, second = held.frames[0], held.frames[1]
        if not are_near(first, second):
            return self._alone()
        begin_us = first.mid_us if self._paired else first.first_us
        self._paired = True
        window = held.window(
            (first, second), after_us=held.cut.reach_us, index=held.count(), answers_us=(begin_us, second.mid_us)
        )
        held.retire()
        return window

    def remaining(self) -> Iterator[ContentWindow]:
        """Cut the pairs that wait for events, then answer up to the end of the last frame's exposure."""
        held = self._held
        while len(held.frames) > 1:
            held.tape.watermark_us = math.ceil(held.frames[1].last_us) + held.cut.reach_us + held.guard_us[1]
            while (window := self.following()) is not None:
                yield window
        if held.frames and self._paired and held.previous is not None:
            last = held.frames[0]
            yield held.window(
                (held.previous, last),
                after_us=held.cut.margin_us,
                index=held.index - 1,
                answers_us=(last.mid_us, np.nextafter(last.last_us, np.inf)),
            )
        elif held.frames:
            yield self._alone()

    def expected_us(self, frames: tuple[Frame, ...]) -> int:
        """The second exposure's end; before it came, where it should end if frames come at steady intervals."""
        held, last_us = self._held, math.floor(frames[-1].last_us)
        if len(frames) == 2:
            return last_us + held.cut.reach_us + held.guard_us[1]
        if held.previous is None:
            return last_us
        # A window that ends before what was done for it is built from nothing.
        return last_us + math.floor(frames[0].first_us - held.previous.first_us) - _UNSTEADY_US

    def needed_us(self) -> float:
        """From the last frame on."""
        return self._held.oldest_us()

    def _alone(self) -> ContentWindow:
        """Answer from a frame without a neighbour: the end of its exposure, and the start if it was not paired."""
        held, frame = self._held, self._held.frames[0]
        begin_us = frame.mid_us if self._paired else frame.first_us
        self._paired = False
        window = held.window(
            (frame,),
            after_us=held.cut.margin_us,
            index=held.count(),
            answers_us=(begin_us, np.nextafter(frame.last_us, np.inf)),
        )
        held.retire()
        return window
