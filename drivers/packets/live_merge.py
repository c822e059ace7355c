"""Merge what a live camera hands out piece by piece into the order that a source promises.

SDKs deliver events, frames and inertial samples through separate queues, and say nothing where nothing happened. Here
they get one watermark. It comes from the events, and where those are silent from other stamps of the same device: a
frame that ended at t tells that the device's clock has reached t. The host's clock alone promises nothing: a cable that
stalls would look like a scene in which nothing moves.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket

# As drivers.packets.cleaning: a step back of at most this is jitter, held at the latest time there.
_JITTER_US = 1000
# A stamp that is further ahead of all events is believed only when a second one agrees, and events that are further
# behind the promise mean that the clock began again.
_LEAP_US = 1_000_000
_log = logging.getLogger(__name__)


class LiveMerge:
    """Remembers how far the device's clock has come, and the frames that wait for their events.

    Attributes:
        late_events: events that came after the time of their own had been given up; dropped, in a `Gap`.
        stale_frames: frames that came after the events of the next life of the clock; dropped.
    """

    def __init__(self, *, slack_us: int, silence_ms: int = 100) -> None:
        """Begin with nothing known.

        Args:
            slack_us: how much later than another stamp of the same device time an event may be handed out.
            silence_ms: other stamps count only when no event came for so long, host time: events that keep coming
                may lag far behind on a busy machine.
        """
        self.late_events = 0
        self.stale_frames = 0
        self._slack_us = slack_us
        self._silence_ns = silence_ms * 1_000_000
        self._heard_ns: int | None = None  # when events came last, or when we began to wait for them
        self._promised_us: int | None = None
        self._newest_us: int | None = None  # event
        self._doubted_us: int | None = None
        self._ended_us: int | None = None  # how far the clock before the last reset had come
        self._frames: deque[tuple[int, Frame]] = deque()  # with the life of the clock that they belong to
        self._life = 0
        self._frame_life = 0
        self._frame_us: int | None = None

    def events(
        self,
        t_us: NDArray[np.int64],
        x: NDArray[np.uint16],
        y: NDArray[np.uint16],
        p: NDArray[np.uint8],
        now_ns: int,
    ) -> Iterator[SourcePacket]:
        """Take events in the order of the device (int64, uint16, uint16, uint8, each [N]), and what they make due."""
        if not t_us.size:
            return
        self._heard_ns = now_ns
        first_us, promised_us = int(t_us[0]), self._promised_us
        went_back = self._newest_us is not None and first_us < self._newest_us - _JITTER_US
        if went_back or (promised_us is not None and first_us < promised_us - _LEAP_US):
            yield from self._begin_again()
        elif promised_us is not None and first_us < promised_us - _JITTER_US:
            late = int(np.searchsorted(t_us, promised_us))
            yield self._late(first_us, promised_us, late, now_ns)
            t_us, x, y, p = t_us[late:], x[late:], y[late:], p[late:]
            if not t_us.size:
                return
        last_us = int(t_us[-1])
        if (
            last_us < int(t_us.max()) - _JITTER_US
        ):  # the clock began again in the middle: drivers.packets.cleaning cuts there
            yield from self._begin_again()
        self._newest_us = last_us
        self._promised_us = last_us if self._promised_us is None else max(last_us, self._promised_us)
        yield EventBatch(t_us, x, y, p, self._promised_us, now_ns)
        yield from self._due()

    def frame(self, frame: Frame) -> Iterator[SourcePacket]:
        """Take a frame, before the events that were there with it: it is handed out when they have passed its exposure.

        Its end is a stamp for `clock`, after those events.
        """
        if self._frame_us is None:
            self._frame_life = self._life
        elif frame.exposure_start_us < self._frame_us - _JITTER_US:
            self._frame_life += 1  # its clock began again, ahead of the events or after them
        self._frame_us = frame.exposure_start_us
        self._frames.append((self._frame_life, frame))
        waits = self._frames[0][1]
        if self._frame_life > self._life and frame.last_us - waits.last_us > _LEAP_US:
            yield from self._begin_again()  # the events say nothing about it
        yield from self._due()

    def clock(self, t_us: int, now_ns: int, *, exact: bool = False) -> Iterator[SourcePacket]:
        """Take a stamp of the device that is no event's.

        Args:
            t_us: time that the device's clock has reached.
            now_ns: host monotonic time.
            exact: all events before it were handed out; otherwise they may follow within the slack.
        """
        self._heard_ns = now_ns if self._heard_ns is None else self._heard_ns
        if not exact and now_ns - self._heard_ns < self._silence_ns:
            return
        if exact and self._newest_us is not None and t_us < self._newest_us - _JITTER_US:
            yield from self._begin_again()
        t_us = t_us if exact else t_us - self._slack_us
        promised_us = self._promised_us
        if promised_us is not None and (t_us <= promised_us or (not exact and self._is_doubtful(t_us, promised_us))):
            return
        self._promised_us = t_us
        yield EventBatch.empty(t_us, received_ns=now_ns)
        yield from self._due()

    def gap(self, t1_us: int, reason: str, now_ns: int) -> Iterator[SourcePacket]:
        """Take the news that events are missing from the newest promise to a time."""
        if self._promised_us is not None:
            yield Gap(self._promised_us, max(self._promised_us, t1_us), reason, now_ns)

    def idle(self, now_ns: int) -> SourcePacket:
        """Say that nothing came: the last promise again, so that whoever iterates stays responsive."""
        if self._promised_us is None:
            return ImuBatch(np.empty(0, np.int64), np.empty((0, 3), np.float32), np.empty((0, 3), np.float32))
        return EventBatch.empty(self._promised_us, received_ns=now_ns)

    def _is_doubtful(self, t_us: int, promised_us: int) -> bool:
        """Tell whether a stamp may be left over from before a reset: near that clock's end, or far ahead and alone."""
        if self._ended_us is not None and promised_us < self._ended_us and abs(t_us - self._ended_us) < _LEAP_US:
            return True
        if t_us - promised_us <= _LEAP_US:
            return False
        doubted_us, self._doubted_us = self._doubted_us, t_us
        return doubted_us is None or abs(t_us - doubted_us) > _LEAP_US

    def _stale(self, frame: Frame) -> None:
        if not self.stale_frames:
            _log.warning("frame %d came after its clock had begun again: dropped", frame.index)
        self.stale_frames += 1

    def _late(self, first_us: int, promised_us: int, late: int, now_ns: int) -> Gap:
        if not self.late_events:
            _log.warning("%d events came %d us after their time was given up: dropped", late, promised_us - first_us)
        self.late_events += late
        return Gap(first_us, promised_us, f"{late} events came too late", now_ns)

    def _begin_again(self) -> Iterator[SourcePacket]:
        """The device's clock began again: what belongs to the old one goes out, cleaning begins an epoch."""
        while self._frames and self._frames[0][0] <= self._life:
            yield self._frames.popleft()[1]
        self._life += 1
        self._ended_us = self._promised_us
        self._newest_us = self._promised_us = self._doubted_us = None

    def _due(self) -> Iterator[Frame]:
        promised_us = self._promised_us
        while self._frames and promised_us is not None:
            life, frame = self._frames[0]
            if life > self._life or (life == self._life and frame.last_us > promised_us):
                return
            self._frames.popleft()
            if life == self._life:
                yield frame
            else:
                self._stale(frame)
