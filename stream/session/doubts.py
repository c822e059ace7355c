"""What a stream would leave out without a word: images that no window can give, events that tell of no frame."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from nire.types import ContentWindow, EventBatch, Frame, Packet, Query
from stream.config_sections import PlanConfig
from stream.session.plan import has_shutters, why_none

# So many windows are no accident of where they lie.
_AWHILE = 10
_Span = tuple[float, float]
_NONE: _Span = (math.inf, -math.inf)

_log = logging.getLogger(__name__)


class Doubts:
    """Watches packets and the plan, and says each doubt once."""

    def __init__(self, *, has_frames: bool) -> None:
        """Begin; where there are no frames, events need not lie beside any."""
        self._is_apart_told = not has_frames
        self._events = self._frames = _NONE
        self._epoch = self._windows = 0
        self.replanned()

    def replanned(self) -> None:
        """Forget what the plan has asked: it is another one."""
        self._barren, self._is_plan_told = 0, False
        self._unasked: ContentWindow | None = None

    def packet(self, packet: Packet) -> None:
        """Take a packet; one of a later life of the clock begins anew."""
        if self._is_apart_told:
            return
        if packet.epoch > self._epoch:
            self._events = self._frames = _NONE
            self._epoch = packet.epoch
        if isinstance(packet, EventBatch) and len(packet):
            self._events = _joined(self._events, float(packet.t_us[0]), float(packet.t_us[-1]))
        elif isinstance(packet, Frame):
            self._frames = _joined(self._frames, packet.first_us, packet.last_us)

    def planned(self, window: ContentWindow, queries: Sequence[Query], plan: PlanConfig) -> None:
        """Take what a plan asks of a window, `queries_of`."""
        self._windows += 1
        if self._windows == _AWHILE:
            self._say_apart()
        if queries:
            self._is_plan_told = True
        if self._is_plan_told:
            return
        # Between two instants of a slow plan nothing is asked, and nothing is wrong.
        self._unasked = window
        self._barren += has_shutters(window, plan)
        if self._barren == _AWHILE:
            self._say_plan(plan)

    def say(self, plan: PlanConfig) -> None:
        """Say what is doubtful: at the end of a stream, before the number of windows that it takes otherwise."""
        self._say_plan(plan)
        self._say_apart()

    def _say_plan(self, plan: PlanConfig) -> None:
        if not self._is_plan_told and self._unasked is not None:
            self._is_plan_told = True
            _log.warning("the plan %r makes no image of any window: %s", plan.name, why_none(self._unasked, plan))
            self._unasked = None

    def _say_apart(self) -> None:
        if not self._is_apart_told and (reason := self._why_apart()):
            self._is_apart_told = True
            _log.warning(reason)

    def _why_apart(self) -> str:
        """Say how far apart events and frames lie; "" where they overlap, or one of them has not come."""
        (first_us, last_us), (begin_us, end_us) = self._events, self._frames
        if math.inf in (first_us, begin_us) or (first_us <= end_us and begin_us <= last_us):
            return ""
        return (
            f"all events lie in [{first_us:.0f}, {last_us:.0f}] us, all frames in [{begin_us:.0f}, {end_us:.0f}] us: "
            "events tell nothing of what the frames show. Are their times of one clock and one unit?"
        )


def _joined(span: _Span, first_us: float, last_us: float) -> _Span:
    return min(span[0], first_us), max(span[1], last_us)
