"""What is held of a stream, frames and events, and how a window is cut out of it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from nire.types import ContentWindow, Frame, Geometry
from stream.windows.cut import Cut
from stream.windows.tape import Tape

LONGEST_PAIR_US = 600_000
"""Frames further apart than this are not paired: a camera that paused must not cost seconds of event planes."""


class Held:
    """Frames that wait for their window, the last ones that had theirs, and the tape of events.

    Attributes:
        cut: how windows are cut at present.
        guard_us: events are wanted this much (before, after) beyond a window, for the offset between its two clocks.
        tape: the events.
        frames: those that wait, in the order of their indices.
        previous: the frame that was retired last; None before the first.
        partner: under `single`, the frame retired before that one.
        index: of the next window.
        is_thin: windows are cut without their events, for `filled`.
    """

    def __init__(self, geometry: Geometry, cut: Cut, index: int = 0) -> None:
        """Hold nothing yet; `index` is that of the first window."""
        self.cut = cut
        self.guard_us = (0, 0)
        self.tape = Tape()
        self.frames: deque[Frame] = deque()
        self.previous: Frame | None = None
        self.partner: Frame | None = None
        self.index = index
        self.is_thin = False
        self._geometry = geometry

    @property
    def edge_us(self) -> int:
        """Up to here all events are there that an exposure needs, the reach after it included."""
        return self.tape.watermark_us - self.guard_us[1] - self.cut.reach_us

    @property
    def horizon_us(self) -> int:
        """Without a frame for this long (none yet, or the camera paused) no window can reach further back."""
        return self.tape.watermark_us - 2 * LONGEST_PAIR_US

    def forget(self, epoch: int) -> None:
        """Begin a new stream; windows are counted on."""
        self.tape = Tape(epoch)
        self.frames.clear()
        self.previous = None
        self.partner = None

    def retire(self) -> Frame:
        """Take the first frame out: its windows have been cut."""
        self.previous = self.frames.popleft()
        return self.previous

    def is_past(self, t_us: float) -> bool:
        """Tell whether all events before a time are there."""
        return self.tape.watermark_us >= math.ceil(t_us) + self.guard_us[1]

    def begin_us(self, first: Frame) -> int:
        """Tell where the events of a window begin that begins with a frame."""
        return math.floor(first.first_us - self.cut.margin_us) - self.guard_us[0]

    def oldest_us(self) -> float:
        """Tell from where on windows that have frames may need events."""
        oldest = self.previous or (self.frames[0] if self.frames else None)
        return self.horizon_us if oldest is None else max(self.horizon_us, oldest.first_us)

    def count(self) -> int:
        """Number the next window."""
        self.index += 1
        return self.index - 1

    def window(
        self,
        frames: tuple[Frame, ...],
        *,
        after_us: int,
        index: int,
        answers_us: tuple[float, float] = (-math.inf, math.inf),
    ) -> ContentWindow:
        """Cut the window of one or two frames, with the margin before and `after_us` behind their exposures."""
        first_us, last_us = frames[0].first_us, max(frame.last_us for frame in frames)
        covered_us = (first_us - self.cut.margin_us, last_us + after_us)
        t0_us = self.begin_us(frames[0])
        t1_us = math.ceil(covered_us[1]) + self.guard_us[1]
        return self.slice(
            t0_us, max(t1_us, t0_us + 1), frames, index=index, answers_us=answers_us, covered_us=covered_us
        )

    def slice(
        self,
        t0_us: int,
        t1_us: int,
        frames: tuple[Frame, ...],
        *,
        index: int,
        answers_us: tuple[float, float] = (-math.inf, math.inf),
        covered_us: tuple[float, float] = (-math.inf, math.inf),
    ) -> ContentWindow:
        """Cut the window over the events of [t0, t1), device time, us."""
        received_ns = self.tape.received_ns(t1_us)
        return ContentWindow(
            index=index,
            t0_us=t0_us,
            t1_us=t1_us,
            frames=frames,
            events=self.tape.cut(t0_us, t0_us if self.is_thin else t1_us),
            geometry=self._geometry,
            gaps=self.tape.gaps_in(t0_us, t1_us),
            answers_us=answers_us,
            covered_us=covered_us,
            received_ns=max(received_ns, *(frame.received_ns for frame in frames), 0),
        )

    def filled(self, window: ContentWindow) -> ContentWindow:
        """Give a window its events, which are held until it is released; one of an earlier stream has them."""
        if window.events.epoch != self.tape.epoch:
            return window
        return replace(window, events=self.tape.cut(window.t0_us, window.t1_us))


def are_near(first: Frame, second: Frame) -> bool:
    """Tell whether two frames are near enough in time to share a window."""
    return second.last_us - first.first_us <= LONGEST_PAIR_US
