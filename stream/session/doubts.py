"""What a stream would leave out without a word: images that no window can give, events that tell of no frame."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from nire.shutter import Shutter
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
        self.uncovered = 0
        """Shutters of the plan that were left out because they reach out of their window; not those that reach beyond
        the first or the last one: what is there nobody has seen."""
        self.replanned()

    def replanned(self) -> None:
        """Forget what the plan has asked: it is another one."""
        self._barren, self._is_plan_told = 0, False
        self._unasked: ContentWindow | None = None
        self._asked = self._planned = self._planned_epoch = 0
        self._covers_us = self._takes_us = 0.0
        self._late: list[Shutter] = []
        self._is_cut_told = False

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

    def planned(
        self, window: ContentWindow, queries: Sequence[Query], uncovered: Sequence[Shutter], plan: PlanConfig
    ) -> None:
        """Take what a plan asks of a window, `asked_of`."""
        self._windows += 1
        if self._windows == _AWHILE:
            self._say_apart()
        self._count(window, queries, uncovered)
        if self._planned == _AWHILE:
            self._say_cut(plan)
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
        self._say_cut(plan)
        self._say_apart()

    def _count(self, window: ContentWindow, queries: Sequence[Query], uncovered: Sequence[Shutter]) -> None:
        first_us, last_us = window.covered_us
        begins = self._planned == 0 or window.events.epoch != self._planned_epoch
        self._planned_epoch = window.events.epoch
        # Not those before all that is known; and those behind it only once there is more.
        self._late = [] if begins else self._late
        left_out = [shutter for shutter in uncovered if not begins or shutter.first_us >= first_us]
        self.uncovered += len(self._late)
        self._late = [shutter for shutter in left_out if shutter.last_us > last_us]
        self.uncovered += len(left_out) - len(self._late)
        self._planned += 1
        self._asked += len(queries) + len(left_out)
        if left_out:
            self._covers_us, self._takes_us = last_us - first_us, left_out[0].last_us - left_out[0].first_us

    def _say_cut(self, plan: PlanConfig) -> None:
        """Say that some images are left out; of a plan that makes none another sentence is said."""
        if self._is_cut_told or not self._is_plan_told or not self.uncovered:
            return
        self._is_cut_told = True
        _log.warning(
            "the plan %r: %d of %d images so far are left out, because their exposure reaches out of the window that "
            "would answer: with all its rows an image takes %.0f us, and a window covers %.0f us. Lower "
            "plan.exposure_us or plan.row_delay_us",
            plan.name, self.uncovered, self._asked, self._takes_us, self._covers_us,
        )  # fmt: skip

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
