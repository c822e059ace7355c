"""Packets in any interleaving become complete windows: the same windows, whatever the order and the splitting."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator

import numpy as np

from nire.types import ContentWindow, EventBatch, Frame, Gap, Geometry, Packet
from stream.config import PolicyName
from stream.windows.span import Spans
from stream.windows.tape import Tape

# Frames further apart than this are not paired: a camera that paused must not cost seconds of event planes.
_LONGEST_PAIR_US = 600_000
# A frame may come this much earlier after the one before it than that one did.
_UNSTEADY_US = 2000


class WindowAssembler:
    """Collects packets and hands out windows, in order, once each.

    A window is complete when its frames are there and the event watermark has passed its end. Nothing that arrived
    later or earlier changes it, so offline, replay and live see the same windows (but for `live_edge`, which takes
    the newest frame there is).
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        policy: PolicyName,
        margin_us: int,
        reach_us: int,
        step_us: float,
        span_us: int = 33_000,
    ) -> None:
        """Choose how windows are cut.

        Args:
            geometry: of the sensor.
            policy: pair, single, live_edge or span.
            margin_us: answered before the first exposure, and after the last one at the end of the stream.
            reach_us: answered after the last exposure while the stream runs; waiting for it costs latency.
            step_us: live_edge: a window ends as soon as a multiple of it can be answered.
            span_us: span: the length of a window, at its multiples.
        """
        self.policy: PolicyName = policy
        self.margin_us = margin_us
        self.reach_us = reach_us
        self.step_us = step_us
        self.phase_us = 0.0
        """live_edge: what is answered lies so much behind multiples of `step_us`."""
        self.guard_us = (0, 0)
        """Events are wanted this much (before, after) beyond a window, for the offset between its two clocks."""
        self.lost_frames = 0
        self._geometry = geometry
        self._index = 0
        self._epoch = 0
        self._finished: deque[ContentWindow] = deque()
        self._tape = Tape()
        self._frames: deque[Frame] = deque()
        self._early: list[Frame] = []
        self._previous: Frame | None = None
        self._partner: Frame | None = None
        self._answered_us = -math.inf
        self._paired = False
        self._spans = Spans(span_us)

    @property
    def held_events(self) -> int:
        """How many events are kept at present."""
        return len(self._tape)

    def push(self, packet: Packet) -> None:
        """Take a packet: events in the order of time, frames in the order of their indices, mixed in any way."""
        if packet.epoch > self._epoch:
            if isinstance(packet, Frame):
                self._early.append(packet)
                return
            self._next_epoch(packet.epoch)
        if packet.epoch < self._epoch:
            self.lost_frames += isinstance(packet, Frame)
            return
        if isinstance(packet, Frame):
            self._push_frame(packet)
        elif isinstance(packet, Gap):
            self._tape.mark(packet)
        elif isinstance(packet, EventBatch):
            self._tape.append(packet)

    def complete(self) -> Iterator[ContentWindow]:
        """Hand out the windows that are complete now; `guard_us` may be changed between two of them."""
        while self._finished:
            yield self._finished.popleft()
        yield from self._following()

    def finish(self) -> Iterator[ContentWindow]:
        """End the stream: hand out what is left, without waiting for events that will not come."""
        yield from self.complete()
        yield from self._tail()
        self._restart()

    def begun(self) -> ContentWindow | None:
        """Look at the next window as far as it has arrived; None where nothing of it has, or where it has no frame."""
        wanted = {"pair": 2, "single": 1, "live_edge": 1}.get(self.policy, 0)
        frames = tuple(itertools.islice(self._frames, wanted))
        if len(frames) == 2 and not self._are_near(*frames):
            frames = frames[:1]
        if not frames:
            return None
        t0_us, t1_us = self._begin_us(frames[0]), min(self._tape.watermark_us, self._expected_us(frames))
        return self._cut(t0_us, t1_us, frames, index=self._index) if t1_us > t0_us else None

    def frame_before(self, window: ContentWindow) -> Frame | None:
        """Find the frame before a window's only one, near enough to be paired with it; None for the first."""
        frame = window.frames[0]
        # Under `single` the window's own frame has been retired already: the one before it is its partner.
        retired = (self._previous, self._partner)
        previous = next((other for other in retired if other is not None and other.index < frame.index), None)
        return previous if previous is not None and self._are_near(previous, frame) else None

    def paired(self, previous: Frame, window: ContentWindow) -> ContentWindow:
        """Make the window over a single frame and the one before it, for calibration."""
        return self._window((previous, window.frames[0]), after_us=0, index=window.index)

    def change_policy(self, policy: PolicyName) -> None:
        """Cut windows in another way from now on; nothing is answered twice."""
        self.policy = policy
        previous, self._partner = self._previous, None
        self._paired = policy == "pair" and previous is not None
        self._answered_us = previous.mid_us if previous is not None else -math.inf
        if self._paired and previous is not None:
            self._frames.appendleft(previous)

    def release(self) -> None:
        """Forget what no later window needs; call when the newest window and its pair were used."""
        keep_us = self._keep_from_us() - self.margin_us - self.guard_us[0]
        self._tape.forget(keep_us)

    # State

    def _restart(self) -> None:
        """Forget the stream, not the counts."""
        self._tape = Tape(self._epoch)
        self._frames.clear()
        self._early.clear()
        self._previous = None
        self._partner = None
        self._answered_us = -math.inf
        self._paired = False
        self._spans = Spans(self._spans.span_us)

    def _next_epoch(self, epoch: int) -> None:
        """The device clock started again: end the old stream, begin a new one."""
        early = [frame for frame in self._early if frame.epoch == epoch]
        self._finished.extend([*self._following(), *self._tail()])
        self._epoch = epoch
        self._restart()
        for frame in early:
            self._push_frame(frame)

    def _push_frame(self, frame: Frame) -> None:
        newest = self._frames[-1] if self._frames else self._previous
        if newest is not None:
            if frame.index <= newest.index:
                return
            self.lost_frames += frame.index - newest.index - 1
        self._frames.append(frame)

    def _keep_from_us(self) -> float:
        # Without a frame for this long (none yet, or the camera paused) no window can reach further back.
        horizon_us = self._tape.watermark_us - 2 * _LONGEST_PAIR_US
        if self.policy == "span":
            return horizon_us if self._spans.needed_us is None else self._spans.needed_us
        oldest = self._previous or (self._frames[0] if self._frames else None)
        return horizon_us if oldest is None else max(horizon_us, oldest.first_us)

    def _expected_us(self, frames: tuple[Frame, ...]) -> int:
        """Guess, rather early, where the window will end that begins with some frames."""
        if self.policy == "live_edge":
            return self._tape.watermark_us
        last_us = math.floor(frames[-1].last_us)
        if len(frames) == 2 or self.policy == "single":
            return last_us + self.reach_us + self.guard_us[1]
        if self._previous is None:
            return last_us
        # Frames come at steady intervals; a window that ends before what was done for it is built from nothing.
        return last_us + math.floor(frames[0].first_us - self._previous.first_us) - _UNSTEADY_US

    # Windows

    def _following(self) -> Iterator[ContentWindow]:
        while (window := self._next()) is not None:
            yield window

    def _next(self) -> ContentWindow | None:
        if self.policy == "single":
            return self._next_single()
        if self.policy == "pair":
            return self._next_pair()
        if self.policy == "live_edge":
            return self._next_live_edge()
        return self._next_span()

    def _next_single(self) -> ContentWindow | None:
        if not self._frames or not self._is_past(self._frames[0].last_us + self.reach_us):
            return None
        return self._single(self.reach_us)

    def _single(self, after_us: int) -> ContentWindow:
        frame = self._frames.popleft()
        window = self._window(
            (frame,),
            after_us=after_us,
            index=self._count(),
            answers_us=(frame.first_us, np.nextafter(frame.last_us, np.inf)),
        )
        self._partner = self._previous
        self._retire(frame)
        return window

    def _next_pair(self) -> ContentWindow | None:
        if len(self._frames) < 2 or not self._is_past(self._frames[1].last_us + self.reach_us):
            return None
        first, second = self._frames[0], self._frames[1]
        if not self._are_near(first, second):
            return self._lone_frame()
        begin_us = first.mid_us if self._paired else first.first_us
        self._frames.popleft()
        self._paired = True
        window = self._window(
            (first, second), after_us=self.reach_us, index=self._count(), answers_us=(begin_us, second.mid_us)
        )
        self._retire(first)
        return window

    def _lone_frame(self) -> ContentWindow:
        """A frame without a neighbour in time answers alone: the end of its exposure, and the start if unpaired."""
        frame = self._frames.popleft()
        begin_us = frame.mid_us if self._paired else frame.first_us
        self._paired = False
        window = self._window(
            (frame,),
            after_us=self.margin_us,
            index=self._count(),
            answers_us=(begin_us, np.nextafter(frame.last_us, np.inf)),
        )
        self._retire(frame)
        return window

    def _next_live_edge(self) -> ContentWindow | None:
        edge_us = self._tape.watermark_us - self.guard_us[1] - self.reach_us
        while len(self._frames) > 1 and self._frames[1].last_us <= edge_us:
            # What lies before the newer frame, and was not asked for yet, is the older one's.
            rest = self._up_to(float(np.nextafter(self._frames[1].first_us, -np.inf)))
            if rest is not None:
                return rest
            self._retire(self._frames.popleft())
        return self._up_to(edge_us) if self._frames and self._frames[0].last_us <= edge_us else None

    def _up_to(self, edge_us: float) -> ContentWindow | None:
        """Make the window of the first frame that answers what is new of the live edge's grid, up to some time."""
        frame, newest_us = self._frames[0], self._newest_us(edge_us)
        begin_us, end_us = max(self._answered_us, frame.first_us), max(newest_us, frame.last_us)
        if newest_us < begin_us:
            return None
        self._answered_us = float(np.nextafter(newest_us, np.inf))
        return self._cut(
            self._begin_us(frame),
            math.ceil(end_us) + self.reach_us + self.guard_us[1],
            (frame,),
            index=self._count(),
            answers_us=(begin_us, self._answered_us),
            covered_us=(frame.first_us - self.margin_us, end_us + self.reach_us),
        )

    def _newest_us(self, edge_us: float) -> float:
        """Find the newest time of the live edge's grid up to some time."""
        k = math.ceil((edge_us - self.phase_us) / self.step_us)  # one late: the product decides, not this quotient
        while (newest_us := k * self.step_us + self.phase_us) > edge_us:
            k -= 1
        return newest_us

    def _next_span(self) -> ContentWindow | None:
        while self._frames:
            self._retire(self._frames.popleft())
        span = self._spans.following((self._tape.held,), self._tape.watermark_us - self.guard_us[1] - self.reach_us)
        return None if span is None else self._span(*span, answers_us=span, after_us=self.reach_us)

    def _last_span(self) -> Iterator[ContentWindow]:
        """The rest of the stream, in a window that is as long as the others and reaches back for it."""
        end_us = self._tape.watermark_us - self.guard_us[1]
        begin_us = self._spans.unfinished_us(end_us)
        if begin_us is not None:
            yield self._span(end_us - self._spans.span_us, end_us, answers_us=(begin_us, end_us), after_us=0)

    def _span(self, begin_us: int, end_us: int, *, answers_us: tuple[float, float], after_us: int) -> ContentWindow:
        first_us, last_us = begin_us - self.reach_us, end_us + after_us
        return self._cut(
            first_us - self.guard_us[0],
            last_us + self.guard_us[1],
            (),
            index=self._count(),
            answers_us=answers_us,
            covered_us=(first_us, last_us),
        )

    def _tail(self) -> Iterator[ContentWindow]:
        """What only the end of the stream makes answerable."""
        if self.policy == "span":
            yield from self._last_span()
        elif self.policy == "single":
            while self._frames:
                yield self._single(self.margin_us)
        elif self.policy == "pair":
            while len(self._frames) > 1:
                self._tape.watermark_us = math.ceil(self._frames[1].last_us) + self.reach_us + self.guard_us[1]
                yield from self._following()
            if self._frames and self._paired and self._previous is not None:
                last = self._frames[0]
                yield self._window(
                    (self._previous, last),
                    after_us=self.margin_us,
                    index=self._index - 1,
                    answers_us=(last.mid_us, np.nextafter(last.last_us, np.inf)),
                )
            elif self._frames:
                yield self._lone_frame()

    def _window(
        self,
        frames: tuple[Frame, ...],
        *,
        after_us: int,
        index: int,
        answers_us: tuple[float, float] = (-math.inf, math.inf),
    ) -> ContentWindow:
        first_us, last_us = frames[0].first_us, max(frame.last_us for frame in frames)
        covered_us = (first_us - self.margin_us, last_us + after_us)
        t0_us = self._begin_us(frames[0])
        t1_us = math.ceil(covered_us[1]) + self.guard_us[1]
        return self._cut(
            t0_us, max(t1_us, t0_us + 1), frames, index=index, answers_us=answers_us, covered_us=covered_us
        )

    def _begin_us(self, first: Frame) -> int:
        return math.floor(first.first_us - self.margin_us) - self.guard_us[0]

    def _cut(
        self,
        t0_us: int,
        t1_us: int,
        frames: tuple[Frame, ...],
        *,
        index: int,
        answers_us: tuple[float, float] = (-math.inf, math.inf),
        covered_us: tuple[float, float] = (-math.inf, math.inf),
    ) -> ContentWindow:
        received_ns = self._tape.received_ns(t1_us)
        return ContentWindow(
            index=index,
            t0_us=t0_us,
            t1_us=t1_us,
            frames=frames,
            events=self._tape.cut(t0_us, t1_us),
            geometry=self._geometry,
            gaps=self._tape.gaps_in(t0_us, t1_us),
            answers_us=answers_us,
            covered_us=covered_us,
            received_ns=max(received_ns, *(frame.received_ns for frame in frames), 0),
        )

    def _retire(self, frame: Frame) -> None:
        self._previous = frame

    def _count(self) -> int:
        self._index += 1
        return self._index - 1

    def _is_past(self, t_us: float) -> bool:
        return self._tape.watermark_us >= math.ceil(t_us) + self.guard_us[1]

    @staticmethod
    def _are_near(first: Frame, second: Frame) -> bool:
        return second.last_us - first.first_us <= _LONGEST_PAIR_US
