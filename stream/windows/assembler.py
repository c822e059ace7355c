"""Packets in any interleaving become complete windows: the same windows, whatever the order and the splitting."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator

from nire.types import ContentWindow, EventBatch, Frame, Gap, Geometry, Packet
from stream.windows.cut import Cut
from stream.windows.held import Held, are_near
from stream.windows.joined import joined
from stream.windows.policies import Policy, make_policy


class WindowAssembler:
    """Collects packets and hands out windows, in order, once each.

    A window is complete when its frames are there and the event watermark has passed its end. Nothing that arrived
    later or earlier changes it, so offline, replay and live see the same windows (but for `live_edge`, which takes
    the newest frame there is, and for windows that are joined under load).
    """

    def __init__(self, geometry: Geometry, cut: Cut, *, first_window: int = 0) -> None:
        """Begin before the first packet.

        Args:
            geometry: of the sensor.
            cut: how windows are cut.
            first_window: index of the first one.
        """
        self._epoch = 0
        self._finished: deque[ContentWindow] = deque()
        self._early: list[Frame] = []
        self._held = Held(geometry, cut, first_window)
        self._policies: dict[str, Policy] = {}

    @property
    def cut(self) -> Cut:
        """How windows are cut at present."""
        return self._held.cut

    @property
    def held_events(self) -> int:
        """How many events are kept at present."""
        return len(self._held.tape)

    @property
    def held_frames(self) -> int:
        """How many frames wait for their window at present."""
        return len(self._held.frames)

    def guard(self, guard_us: tuple[int, int]) -> None:
        """Want events this much (before, after) beyond a window, for the offset between its two clocks.

        It may be changed between two windows that `complete` hands out.
        """
        self._held.guard_us = guard_us

    def push(self, packet: Packet) -> None:
        """Take a packet: events in the order of time, frames in the order of their indices, mixed in any way."""
        if packet.epoch > self._epoch:
            if isinstance(packet, Frame):
                self._early.append(packet)
                return
            self._next_epoch(packet.epoch)
        if packet.epoch < self._epoch:
            return  # of a clock that is over
        if isinstance(packet, Frame):
            self._push_frame(packet)
        elif isinstance(packet, Gap):
            self._held.tape.mark(packet)
        elif isinstance(packet, EventBatch):
            self._held.tape.append(packet)

    def complete(self) -> Iterator[ContentWindow]:
        """Hand out the windows that are complete now."""
        while self._finished:
            yield self._finished.popleft()
        yield from self._following()

    def waiting(self, *, join: bool = False) -> list[ContentWindow]:
        """Hand out the windows that are complete now, without events: who is too late for most of them copies none.

        Args:
            join: make those without frames that follow one another one window: `joined`.
        """
        self._held.is_thin = True
        try:
            over = list(self._finished)  # of an earlier stream, with events
            self._finished.clear()
            following = list(self._following())
        finally:
            self._held.is_thin = False
        return [*over, *(joined(following) if join and self._held.cut.policy == "span" else following)]

    def filled(self, window: ContentWindow) -> ContentWindow:
        """Give a window that `waiting` handed out its events; call before `release`."""
        return self._held.filled(window)

    def finish(self) -> Iterator[ContentWindow]:
        """End the stream: hand out what is left, without waiting for events that will not come."""
        yield from self.complete()
        yield from self._policy.remaining()
        self._restart()

    def begun(self) -> ContentWindow | None:
        """Look at the next window as far as it has arrived; None where nothing of it has, or where it has no frame."""
        held = self._held
        frames = tuple(itertools.islice(held.frames, self._policy.frames_begun))
        if len(frames) == 2 and not are_near(*frames):
            frames = frames[:1]
        if not frames:
            return None
        t0_us, t1_us = held.begin_us(frames[0]), min(held.tape.watermark_us, self._policy.expected_us(frames))
        return held.slice(t0_us, t1_us, frames, index=held.index) if t1_us > t0_us else None

    def frame_before(self, window: ContentWindow) -> Frame | None:
        """Find the frame before a window's only one, near enough to be paired with it; None for the first."""
        frame = window.frames[0]
        # Under `single` the window's own frame has been retired already: the one before it is its partner.
        retired = (self._held.previous, self._held.partner)
        previous = next((other for other in retired if other is not None and other.index < frame.index), None)
        return previous if previous is not None and are_near(previous, frame) else None

    def paired(self, previous: Frame, window: ContentWindow) -> ContentWindow:
        """Make the window over a single frame and the one before it, for calibration."""
        return self._held.window((previous, window.frames[0]), after_us=0, index=window.index)

    def recut(self, cut: Cut) -> None:
        """Cut windows in another way from now on; nothing is answered twice."""
        before, self._held.cut = self._held.cut, cut
        if cut.policy != before.policy:
            self._held.partner = None
            self._policy.take_over()

    def release(self) -> None:
        """Forget what no later window needs; call when the newest window and its pair were used."""
        self._held.tape.forget(self._policy.needed_us() - self._held.cut.margin_us - self._held.guard_us[0])

    @property
    def _policy(self) -> Policy:
        # Those that were left are kept: a stream that comes back to one goes on with what it has answered.
        name = self._held.cut.policy
        if name not in self._policies:
            self._policies[name] = make_policy(name, self._held)
        return self._policies[name]

    def _restart(self) -> None:
        """Forget the stream, not the counts."""
        self._held.forget(self._epoch)
        self._early.clear()
        self._policies.clear()

    def _next_epoch(self, epoch: int) -> None:
        """The device clock started again: end the old stream, begin a new one."""
        early = [frame for frame in self._early if frame.epoch == epoch]
        self._finished.extend([*self._following(), *self._policy.remaining()])
        self._epoch = epoch
        self._restart()
        for frame in early:
            self._push_frame(frame)

    def _push_frame(self, frame: Frame) -> None:
        newest = self._held.frames[-1] if self._held.frames else self._held.previous
        if newest is None or frame.index > newest.index:
            self._held.frames.append(frame)

    def _following(self) -> Iterator[ContentWindow]:
        while (window := self._policy.following()) is not None:
            yield window
