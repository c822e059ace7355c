"""Packets in, exposed frames out: the one class that live, replay and offline share."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from drivers.source import SourceInfo
from nire.errors import ShutterOutsideWindow
from nire.shutter import Shutter
from nire.types import (
    Calibration,
    ContentWindow,
    EventBatch,
    ExposedFrame,
    Frame,
    Packet,
    Query,
    Reconstructor,
    Rolls,
    Stamps,
    WallClock,
    WorksAhead,
)
from nire.wall_time import WallTimes
from stream.config import Config, updated
from stream.config_sections import PlanConfig
from stream.losses import Losses
from stream.session.batches import MOST_TOGETHER
from stream.session.budget import Budget, period_ns
from stream.session.doubts import Doubts
from stream.session.fallback import Fallback
from stream.session.lanes import Answer, Built, Exposed, Lane, Lanes
from stream.session.learning import Learning, make_calibrator
from stream.session.plan import asked_of, cut_of, left_out, place_of, require_grid, require_together
from stream.session.shutters import covers, rank, why_not
from stream.session.tally import Counters, Place, Tally
from stream.windows.assembler import WindowAssembler
from stream.windows.cut import Cut

# Past windows that can still be asked.
_MEMORY = 4


_Number = tuple[int, Place | None]
"""Index of a query, and where it lies in the plan; None where it was asked for beside it."""
_Numbered = tuple[Query, _Number]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Begun:
    """A window that is being answered.

    Attributes:
        answer: of the window.
        budget: of the method that answers it.
        beside: how many windows may share the cores with it, itself included.
        exposed_ns: that its images took.
        out_ns: that those took who were handed them.
    """

    answer: Answer[_Number]
    budget: Budget
    beside: int
    exposed_ns: int = 0
    out_ns: int = 0


class Session:
    """Keeps the moving window, has contents built, answers the plan.

    With `freshest` it prefers the newest data to all data: fewer queries, then skipped windows, all counted.
    Without, every window is answered in full: the images do not depend on timing.

    Windows may be answered beside one another, in threads; their images are handed out in order all the same.
    """

    def __init__(
        self,
        config: Config,
        info: SourceInfo,
        reconstructor: Reconstructor,
        *,
        freshest: bool,
        clock: Callable[[], int],
        reach_us: int | None = None,
        tally: Tally | None = None,
        answers: Callable[[ContentWindow], bool] = lambda window: True,
        share: Callable[[], float] = lambda: 1.0,
        speed: Callable[[], float] = lambda: 1.0,
        at_once: int = 1,
    ) -> None:
        """Prepare for one source.

        Args:
            config: source, window and plan are used.
            info: of the source.
            reconstructor: the method; it belongs to this session alone.
            freshest: drop rather than fall behind.
            clock: host monotonic nanoseconds, for stamps and the time budget.
            reach_us: answered after a window's last exposure; None = what the plan needs. Whoever gives it asks for
                shutters of their own: the plan is not looked at.
            tally: of the sessions before this one, counted on; None = begin.
            answers: tells of each window whether the plan is asked; its numbers are taken in any case.
            share: tells what part of the time there is for this session, in (0, 1], where others run beside it.
            speed: tells how fast the device's time goes, 1 = as fast as time, > 0: a replay may be slower.
            at_once: windows that may be answered beside one another, if the method can; `feed` then does not wait for
                their images, which come by a later call. 1 = all comes by the call that completes a window.

        Raises:
            SourceError: the method needs frames and the source has none.
            ConfigError: policy, plan, source and method do not go together.
        """
        # A method that does without frames is given none.
        self._has_frames = info.has_frames and reconstructor.needs_frames
        self._config = config
        self._info = info
        self._fixed_reach_us = reach_us
        cut = self._cut(config.plan)
        require_together(cut.policy, info, reconstructor)
        if reach_us is None:
            require_grid(config.plan, cut.policy)
        self._tally = tally or Tally()
        self.paused = False
        self.newest_us = 0.0
        self.wall = WallTimes()
        self._rolls = isinstance(reconstructor, Rolls) and reconstructor.rolls
        self._freshest = freshest
        self._answers = answers
        self._clock = clock
        self._plan = config.plan
        self._fallback = Fallback(
            reconstructor, live=freshest, share=share, speed=speed, at_once=lambda: self._can_at_once
        )
        self._lanes = Lanes(reconstructor, clock, refused=self._tally.counters.out_of_memory)
        self._most_at_once = at_once if self._lanes.work_beside else 1
        self._works_ahead = isinstance(reconstructor, WorksAhead)
        self._begun: deque[_Begun] = deque()
        """The oldest first, whose images come first."""
        self._kept: list[ContentWindow] = []
        """Complete, and waiting for one that is being answered."""
        self._assembler = WindowAssembler(info.geometry, cut, first_window=self._tally.indices.window)
        calibrator = make_calibrator(
            config.source, info, threshold=config.reconstructor.contrast_threshold, learns=cut.policy != "span"
        )
        self._learning = Learning(calibrator, self._assembler)
        self._recent: deque[ContentWindow] = deque(maxlen=_MEMORY)
        self._doubts = Doubts(has_frames=self._has_frames)
        self._follows = True
        """The plan has asked nothing of this session yet: what the one before it has handed out lies behind."""

    @property
    def counters(self) -> Counters:
        """Running totals, of the sessions before this one too."""
        return self._tally.counters

    @property
    def losses(self) -> Losses:
        """What was lost, as far as packets tell."""
        return self._tally.losses

    @property
    def plan(self) -> PlanConfig:
        """What is asked of each window at present."""
        return self._plan

    @property
    def calibration(self) -> Calibration:
        """What is believed about the sensor at present."""
        return self._learning.current

    @property
    def uncovered(self) -> int:
        """Shutters of the plan that no window covers, so far: they have no index."""
        return self._doubts.uncovered

    @property
    def backend(self) -> str:
        """Name of the method that answers at present."""
        return self._lanes.backend

    @property
    def backend_reason(self) -> str:
        """Why the method answers that does, where a backend has two; else ""."""
        return self._fallback.reason

    @property
    def covered_us(self) -> tuple[float, float] | None:
        """Device time that `ask` can answer at present; None before the first window."""
        if not self._recent:
            return None
        return min(w.covered_us[0] for w in self._recent), max(w.covered_us[1] for w in self._recent)

    @property
    def is_busy(self) -> bool:
        """Windows are being answered: their images come by the next calls of `feed`, packets or not."""
        return bool(self._begun)

    def feed(self, packets: Iterable[Packet]) -> Iterator[ExposedFrame]:
        """Take packets, and answer the windows that they complete: the images that are there."""
        for packet in packets:
            self._take(packet)
            if not self._freshest:
                for window in self._assembler.complete():
                    yield from self._answer(window)
        if self._freshest:
            yield from self._answer_newest()
        else:
            yield from self._images()

    @property
    def is_full(self) -> bool:
        """As many windows are being answered as can be: packets that come meanwhile begin none."""
        return bool(self._begun) and len(self._begun) >= self._at_once

    def wait(self, seconds: float) -> None:
        """Wait until images are there that the next `feed` gives, for so long at most; only while `is_busy`."""
        self._begun[0].answer.wait(seconds)

    def ahead(self) -> bool:
        """Work a little on the window that is still arriving; call when nothing else waits.

        Returns:
            False where nothing is to be done before more packets come.
        """
        if self.paused or not self._works_ahead:
            return False
        window = self._assembler.begun()
        lane = None if window is None else self._lanes.free(window, self._busy(), at_once=self._can_at_once)
        if window is None or lane is None:
            return False
        lane.use(fallback=self._fallback.is_in_force)
        return lane.ahead.step(replace(window, calibration=self._learning.current))

    def finish(self) -> Iterator[ExposedFrame]:
        """End the stream: answer what is left."""
        kept, self._kept = self._kept, []
        for window in [*kept, *self._assembler.finish()]:
            yield from self._answer(window)
        yield from self._images(leave=0)
        self._doubts.say(self._plan)

    def windows(self, packets: Iterable[Packet]) -> Iterator[ContentWindow]:
        """Calibrate and hand out windows, to the stream's end, without asking the plan: for `ask_of` callers."""
        for packet in packets:
            self._take(packet)
            for window in self._assembler.complete():
                yield self._calibrated(window)
        for window in self._assembler.finish():
            yield self._calibrated(window)
        self._doubts.say(self._plan)

    def set_plan(self, changes: Mapping[str, Any]) -> PlanConfig:
        """Change the plan from the next window on.

        Raises:
            ConfigError: an unknown key, a value out of range, or what these windows cannot answer; the plan stays as
                it was.
        """
        plan: PlanConfig = updated(self._plan, changes)
        cut = self._cut(plan)
        require_grid(plan, cut.policy)
        self._plan = plan
        self._doubts.replanned()
        self._assembler.recut(cut)
        return plan

    def ask(self, shutter: Shutter, tag: str) -> ExposedFrame:
        """Answer one shutter from the recent windows.

        Raises:
            ShutterOutsideWindow: none of them covers it.
        """
        candidates = [w for w in self._recent if covers(w, shutter)]
        if not candidates:
            covered_us = self.covered_us or (0.0, 0.0)
            widest_us = max((w.covered_us[1] - w.covered_us[0] for w in self._recent), default=0.0)
            raise ShutterOutsideWindow(f"at present {why_not(shutter, covered_us, widest_us)}", covered_us)
        return self.ask_of(min(candidates, key=lambda window: rank(window, shutter)), shutter, tag)

    def ask_of(self, window: ContentWindow, shutter: Shutter, tag: str) -> ExposedFrame:
        """Answer one shutter from a given window."""
        return next(self.ask_all_of(window, [shutter], tag))

    def ask_all_of(self, window: ContentWindow, shutters: Iterable[Shutter], tag: str) -> Iterator[ExposedFrame]:
        """Answer shutters from a given window, in their order, together as far as memory allows."""
        give = self._tally.indices.give
        queries = [Query(window.film, shutter, tag) for shutter in shutters]
        yield from self._asked(window, [(query, (give(tag)[0], None)) for query in queries])

    # Windows

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, WallClock):
            self.wall.add(packet)
            return
        self.losses.add(packet)
        self._assembler.push(packet)
        self._doubts.packet(packet)
        if isinstance(packet, Frame):
            self.counters.frames += 1
            self.newest_us = max(self.newest_us, packet.last_us)
        elif isinstance(packet, EventBatch):
            self.counters.events += len(packet)
            self.newest_us = max(self.newest_us, float(packet.watermark_us))

    @property
    def _can_at_once(self) -> int:
        """How many windows can be answered beside one another: at the live edge each goes on from the one before it."""
        return 1 if self._assembler.cut.policy == "live_edge" else self._most_at_once

    @property
    def _at_once(self) -> int:
        """How many windows are answered beside one another."""
        return self._fallback.budget.at_once if self._freshest else self._can_at_once

    def _busy(self) -> list[Lane]:
        return [begun.answer.lane for begun in self._begun]

    def _answer_newest(self) -> Iterator[ExposedFrame]:
        yield from self._images()
        free = self._at_once - len(self._begun)
        if free <= 0:
            return
        waiting = [*self._kept, *self._assembler.waiting(join=self._rolls)]
        patience = self._fallback.budget.patience(waiting[-1], self._assembler.cut) if waiting else 1
        # Windows that could be joined have been: none of them waits.
        patience = free if self._rolls and self._assembler.cut.policy == "span" else max(patience, free)
        late, waiting = waiting[:-patience], waiting[-patience:]
        for window in late:
            self.counters.late_windows += 1
            self._planned(window)
        # All of them first: an answer releases events.
        self._kept = [window if window in self._kept else self._assembler.filled(window) for window in waiting]
        while self._kept and len(self._begun) < self._at_once:
            yield from self._answer(self._kept.pop(0))

    def _answer(self, window: ContentWindow) -> Iterator[ExposedFrame]:
        yield from self._images(leave=self._can_at_once - 1)
        window = self._learning.calibrated(window)
        self._recent.append(window)
        self.counters.windows += 1
        queries = self._planned(window)
        queries = queries if self._answers(window) else []
        fallen_back = self._fallback.windows
        self._fallback.choose(window, len(queries), self._assembler.cut)
        self.counters.fallback_windows += self._fallback.windows - fallen_back
        queries = self._affordable(window, queries)
        if queries or (self._rolls and not self.paused):
            self._begin(window, queries)
        yield from self._images()
        self._learning.learn()
        self._assembler.release()

    def _begin(self, window: ContentWindow, queries: Sequence[_Numbered]) -> None:
        lane = self._lanes.free(window, self._busy(), at_once=self._can_at_once)
        assert lane is not None, "a window is begun where another one can be"
        lane.use(fallback=self._fallback.is_in_force)
        self.counters.built_ahead += lane.expect(window)
        budget = self._fallback.budget
        is_quick = self._freshest and budget.is_quick(len(queries), period_ns=period_ns(window, self._assembler.cut))
        beside = 1 if is_quick else self._at_once
        self._begun.append(_Begun(Answer(lane, window, queries, in_thread=beside > 1), budget, beside))

    def _calibrated(self, window: ContentWindow) -> ContentWindow:
        window = self._learning.calibrated(window, at_once=True)
        self.counters.windows += 1
        if self._rolls:
            # So that its images do not depend on which of the windows before were asked.
            self._build(window)
        self._assembler.release()
        return window

    # Images

    def _images(self, *, leave: int | None = None) -> Iterator[ExposedFrame]:
        """Hand out the images that are there, in order.

        Args:
            leave: wait for more, until only so many windows are being answered.
        """
        while self._begun:
            begun = self._begun[0]
            if not begun.answer.is_there and (leave is None or len(self._begun) <= leave):
                return
            built = begun.answer.built()
            if not begun.answer.is_over:
                numbered, exposed = begun.answer.part()
                begun.exposed_ns += exposed.taken_ns
                began_ns = self._clock()
                yield from self._handed_out(begun.answer.window, built, numbered, exposed)
                begun.out_ns += self._clock() - began_ns
            if begun.answer.is_over:
                self._begun.popleft()
                self._spent(begun, built)

    def _spent(self, begun: _Begun, built: Built) -> None:
        """Learn what a window has cost; where several are answered at once, handing out is done beside them."""
        if not begun.answer.wanted:
            return
        beside, wanted = begun.beside, begun.answer.wanted
        expose_ns = max(begun.exposed_ns, beside * begun.out_ns) if beside > 1 else begun.exposed_ns + begun.out_ns
        begun.budget.spent(build_ns=built.taken_ns, expose_ns=expose_ns, queries=wanted, beside=beside)

    def _build(self, window: ContentWindow) -> tuple[Lane, Built]:
        """Build a window beside the plan, unless it is there."""
        lane = self._lanes.apart(self._busy())
        lane.use(fallback=self._fallback.is_in_force)
        self.counters.built_ahead += lane.expect(window)
        return lane, lane.build(window)

    def _asked(self, window: ContentWindow, queries: Sequence[_Numbered]) -> Iterator[ExposedFrame]:
        lane, built = self._build(window)
        for n in range(0, len(queries), MOST_TOGETHER):
            batch = queries[n : n + MOST_TOGETHER]
            exposed = lane.expose(built.content, [query for query, _ in batch])
            yield from self._handed_out(window, built, batch, exposed)

    def _handed_out(
        self, window: ContentWindow, built: Built, queries: Sequence[_Numbered], exposed: Exposed
    ) -> Iterator[ExposedFrame]:
        newest_us = [f.last_us for f in window.frames] + [float(t) for t in window.events.t_us[-1:]]
        evidence_us = max(newest_us, default=float(window.t0_us))
        self.counters.out_of_memory = self._lanes.out_of_memory
        for (query, (index, place)), image in zip(queries, exposed.images, strict=True):
            self.counters.exposed += 1
            self.counters.unanswered += self._tally.indices.hand_out(query.tag, index, place=place, window=window.index)
            wall = self.wall.at(query.shutter.mid_us, window.events.epoch)
            yield ExposedFrame(
                index=index,
                window=window.index,
                pixels=image,
                shutter=query.shutter,
                tag=query.tag,
                stamps=Stamps(query.shutter.mid_us, window.received_ns, built.at_ns, exposed.at_ns),
                transfer=window.transfer,
                evidence_us=evidence_us,
                lost_events=self.losses.events,
                lost_frames=self.losses.frames,
                late_windows=self.counters.late_windows,
                unanswered=self.counters.unanswered,
                out_of_memory=self.counters.out_of_memory,
                backend=built.name,
                engine=built.engine,
                wall_ns=wall and wall.wall_ns,
                wall_uncertainty_us=wall and wall.uncertainty_us,
            )

    def _affordable(self, window: ContentWindow, queries: list[_Numbered]) -> list[_Numbered]:
        """Thin the queries to what the time budget allows; the left-out ones are holes in the index."""
        if not self._freshest or len(queries) < 2:
            return queries
        budget_ms = self._plan.time_budget_ms
        kept = self._fallback.budget.chosen(len(queries), window, self._assembler.cut, time_budget_ms=budget_ms)
        self.counters.reduced_queries += len(queries) - len(kept)
        return [queries[k] for k in kept]

    def _planned(self, window: ContentWindow) -> list[_Numbered]:
        """List what the plan asks of a window. Each query gets the next index, whether it will be answered or not."""
        if self.paused:
            self._follows = False
            return []
        queries, uncovered = asked_of(window, self._plan)
        self._doubts.planned(window, queries, uncovered, self._plan)
        placed = [(place_of(self._plan, window, query), query) for query in queries]
        if placed and self._follows:
            placed = self._after_the_one_before(placed)
        give, tag = self._tally.indices.give, self._plan.name
        numbers = give(tag, len(placed))
        return [(query, (index, place)) for index, (place, query) in zip(numbers, placed, strict=True)]

    def _after_the_one_before(self, placed: list[tuple[Place, Query]]) -> list[tuple[Place, Query]]:
        """Leave out what an earlier session has answered, and number what nobody has answered since: a hole."""
        tag, indices = self._plan.name, self._tally.indices
        last = indices.last(tag)
        if last is not None and last.epoch == placed[0][0].epoch:
            placed = [(place, query) for place, query in placed if left_out(self._plan, last, place) >= 0]
            if placed:
                indices.give(tag, left_out(self._plan, last, placed[0][0]))
        self._follows = not placed
        return placed

    # Settings

    def _cut(self, plan: PlanConfig) -> Cut:
        return cut_of(
            plan,
            self._config.window,
            height=self._info.geometry.height,
            has_frames=self._has_frames,
            fixed_reach_us=self._fixed_reach_us,
        )
