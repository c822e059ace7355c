"""Policy `live_edge`: the newest frame and the events up to now; answers do not wait for the next frame."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nire.types import ContentWindow, Frame
from stream.windows.held import LONGEST_PAIR_US, Held


def create(held: Held) -> LiveEdge:
    """Begin before the first frame."""
    return LiveEdge(held)


class LiveEdge:
    """Cuts a window for what is new of the absolute grid, whenever something is."""

    frames_begun = 1

    def __init__(self, held: Held) -> None:
        """Cut from what is held."""
        self._held = held
        self._answered_us = -math.inf

    def take_over(self) -> None:
        """Begin behind the middle of the frame that was answered last."""
        previous = self._held.previous
        self._answered_us = previous.mid_us if previous is not None else -math.inf

    def following(self) -> ContentWindow | None:
        """Cut the window up to the newest point of the grid; first what an older frame was not asked yet."""
        held, edge_us = self._held, self._held.edge_us
        while len(held.frames) > 1 and held.frames[1].last_us <= edge_us:
            # Earlier unanswered instants use the previous frame.
            rest = self._up_to(float(np.nextafter(held.frames[1].first_us, -np.inf)))
            if rest is not None:
                return rest
            held.retire()
        return self._up_to(edge_us) if held.frames and held.frames[0].last_us <= edge_us else None

    def remaining(self) -> Iterator[ContentWindow]:
        """Nothing: the edge has been answered."""
        yield from ()

    def expected_us(self, frames: tuple[Frame, ...]) -> int:
        """All that is there belongs to the next window."""
        return self._held.tape.watermark_us

    def needed_us(self) -> float:
        """From the last frame on."""
        return self._held.oldest_us()

    def _up_to(self, edge_us: float) -> ContentWindow | None:
        """Cut the window of the first frame that answers what is new of the grid, up to some time."""
        held, frame, newest_us = self._held, self._held.frames[0], self._newest_us(edge_us)
        # A clock that jumps ahead asks for no instants of the time that it left out.
        begin_us = max(self._answered_us, frame.first_us, newest_us - LONGEST_PAIR_US)
        end_us = max(newest_us, frame.last_us)
        if newest_us < begin_us:
            return None
        self._answered_us = float(np.nextafter(newest_us, np.inf))
        return held.slice(
            held.begin_us(frame),
            math.ceil(end_us) + held.cut.reach_us + held.guard_us[1],
            (frame,),
            index=held.count(),
            answers_us=(begin_us, self._answered_us),
            covered_us=(frame.first_us - held.cut.margin_us, end_us + held.cut.reach_us),
        )

    def _newest_us(self, edge_us: float) -> float:
        """Find the newest point of the grid up to some time."""
        step_us, phase_us = self._held.cut.step_us, self._held.cut.phase_us
        k = math.ceil((edge_us - phase_us) / step_us)  # one late: the product decides, not this quotient
        while (newest_us := k * step_us + phase_us) > edge_us:
            k -= 1
        return newest_us
