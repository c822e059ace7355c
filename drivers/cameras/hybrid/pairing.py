"""One pass over an event source and a frame camera: what comes from both, and what leaves as one stream."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from drivers.cameras.hybrid.edges import LOCK_FRAMES, EdgeMatcher, Match
from drivers.cameras.hybrid.first_pulse import Prior
from drivers.cameras.hybrid.frame_cameras import CapturedFrame
from drivers.cameras.hybrid.frame_feed import FrameFeed
from drivers.cameras.hybrid.registration import Registration
from drivers.cameras.hybrid.rhythm import Stamp
from drivers.packets.arrivals import ArrivalLine
from drivers.source import SourceInfo
from nire.errors import ConfigError, SourceError
from nire.types import EventBatch, Frame, SourcePacket, Transfer, Trigger

_RESET_US = 1000  # a clock that goes back further began again (as `drivers.packets.cleaning` has it)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wiring:
    """How the line and the two cameras are connected; see `drivers.cameras.hybrid.source.open_source`."""

    active: Literal["high", "low"]
    channel: int | None
    clock: Literal["auto", "events"]
    latency_us: float | None
    first_pulse: int
    exposure_us: float
    start_delay_us: float
    end_delay_us: float
    registration: str | Path
    depth: float
    row_delay_us: float
    transfer: Transfer | Literal["auto"]
    outside: Literal["drop", "keep"]


class Pairing:
    """One pass: what is remembered between packets."""

    def __init__(self, settings: Wiring, registration: Registration, transfer: Transfer, *, live: bool) -> None:
        """Begin.

        Args:
            settings: how all is connected.
            registration: of the frames.
            transfer: of the frames.
            live: events are passed on at once.
        """
        self.matcher = EdgeMatcher(prior=Prior(first_pulse=settings.first_pulse), exposure_us=settings.exposure_us)
        self._settings = settings
        self._registration = registration
        self._drops = settings.outside == "drop" and not registration.seen.all()
        self._live = live
        self._transfer = transfer
        self._waiting: dict[int, CapturedFrame] = {}
        self._ready: deque[Frame] = deque()
        self._held: list[SourcePacket] = []
        self._watermark_us = -math.inf
        self._known_us = -math.inf  # every edge before it was seen: edges may follow the batch that passes them
        self._epoch = 0
        self._channels: dict[int, int] = {}
        # Either clock against the host's.
        self._event_clock = ArrivalLine()
        self._frame_clock = ArrivalLine()
        self._stamp_us = -math.inf
        self._said: set[str] = set()

    def take(self, packet: SourcePacket, feed: FrameFeed) -> Iterator[SourcePacket]:
        """Pass a packet of the event source on, and the frames that it makes known."""
        if isinstance(packet, Frame):
            return  # of a camera that has its own: the frame camera's are wanted
        if isinstance(packet, Trigger):
            self._edge(packet)
        elif isinstance(packet, EventBatch):
            packet = self._batch(packet)
        self._feed(feed)
        self._match(feed)
        # Until the first frames have their place, a recording's events wait: frames that come too late are lost.
        if self.matcher.waits_for_lock and not self._live and not feed.ended_without_frames:
            self._held.append(packet)
            return
        yield from self._held
        self._held.clear()
        yield packet
        yield from self._due()

    def finish(self, feed: FrameFeed) -> Iterator[SourcePacket]:
        """Decide the frames that are left, by the edges that there are."""
        self._feed(feed)
        self._match(feed, at_end=True)
        yield from self._held
        self._held.clear()
        yield from self._due(at_end=True)

    def report(self, info: SourceInfo) -> None:
        """Say what was lost.

        Raises:
            SourceError: nothing fitted.
        """
        counters = self.matcher.counters
        if not counters.exposures_exact + counters.exposures_estimated and counters.frames_without_edges:
            seen = ", ".join(f"{count} on channel {name}" for name, count in sorted(self._channels.items())) or "none"
            raise SourceError(
                f"{info.name}: none of {counters.frames_without_edges} frames fits the trigger "
                f"edges ({seen}). Check source.settings.channel and active, the wiring of strobe to trigger-in, and "
                "the frames' times"
            )
        if counters.frames_without_edges or counters.exposures_estimated or counters.edges_ignored:
            _log.warning(
                "%s: %d exposures by both edges, %d by one, %d frames left out without edges, %d edges ignored",
                info.name,
                counters.exposures_exact,
                counters.exposures_estimated,
                counters.frames_without_edges,
                counters.edges_ignored,
            )

    # What comes in

    def _edge(self, trigger: Trigger) -> None:
        self._channels[trigger.channel] = self._channels.get(trigger.channel, 0) + 1
        if self._settings.channel is None and len(self._channels) > 1:
            raise ConfigError(
                f"hybrid: edges on the channels {', '.join(map(str, sorted(self._channels)))}: set "
                "source.settings.channel to the one that the frame camera is wired to"
            )
        if self._settings.channel is None or trigger.channel == self._settings.channel:
            self.matcher.add_edge(trigger.t_us, opening=trigger.rising == (self._settings.active == "high"))

    def _batch(self, batch: EventBatch) -> EventBatch:
        if batch.watermark_us < self._watermark_us - _RESET_US or batch.epoch != self._epoch:
            self._restart(batch)
        self._known_us = self._watermark_us
        self._watermark_us = max(self._watermark_us, batch.watermark_us)
        if batch.received_ns:
            self._event_clock = self._event_clock.add(batch.watermark_us, batch.received_ns / 1000)
        if not self._drops or not len(batch):
            return batch
        height, width = self._registration.seen.shape
        inside = (batch.x < width) & (batch.y < height)
        seen = self._registration.seen[np.minimum(batch.y, height - 1), np.minimum(batch.x, width - 1)]
        keep = seen | ~inside  # what lies off the sensor is counted elsewhere
        return batch.part(keep)

    def _restart(self, batch: EventBatch) -> None:
        self._epoch = batch.epoch
        self._watermark_us = self._known_us = -math.inf
        self._event_clock = ArrivalLine()
        self.matcher.restart()

    def _feed(self, feed: FrameFeed) -> None:
        wanted = LOCK_FRAMES if not self.matcher.locked else 2  # the next one may tell about the one before it
        for frame in feed.take(max(0, wanted - self.matcher.pending)):
            self._waiting[frame.index] = frame
            if frame.received_ns:
                self._follow_clock(frame)
            self.matcher.add_stamp(Stamp(frame.index, frame.time_us, frame.exposure_us))

    def _follow_clock(self, frame: CapturedFrame) -> None:
        line = ArrivalLine() if frame.time_us < self._stamp_us else self._frame_clock  # it was set back
        self._frame_clock = line.add(frame.time_us, frame.received_ns / 1000)
        self._stamp_us = frame.time_us

    def _match(self, feed: FrameFeed, *, at_end: bool = False) -> None:
        if not self.matcher.locked:
            self.matcher.prior = self._prior()
        while True:
            decided = self.matcher.settle(self._known_us, no_more_frames=feed.ended, at_end=at_end)
            for match in decided:
                self._decided(match, self._waiting.pop(match.stamp.index))
            # Of a recording the next frames are there already.
            if not decided or self._live:
                return
            self._feed(feed)

    def _prior(self) -> Prior:
        latency_us = self._settings.latency_us
        if self._settings.clock == "events":
            return Prior(-(latency_us or 0.0))
        if math.isinf(self._event_clock.doubt_us) or math.isinf(self._frame_clock.doubt_us):
            return Prior(first_pulse=self._settings.first_pulse)  # nothing has arrived: a recording
        host_us = self._frame_clock.host_us(self._stamp_us)
        offset_us = self._event_clock.device_us(host_us) - self._stamp_us
        return Prior(offset_us, at_most=True) if latency_us is None else Prior(offset_us - latency_us)

    # What goes out

    def _decided(self, match: Match, captured: CapturedFrame) -> None:
        if match.start_us is None or match.end_us is None:
            self._say("none", "frame %d: no edge was found for it, it is left out and counts as lost", match)
            return
        if match.seen != "both":
            self._say(match.seen, "frame %d: one of its edges was lost, its exposure is estimated", match)
        registration, settings = self._registration, self._settings
        shift_us = settings.row_delay_us * registration.row_offset
        start_us = round(match.start_us - settings.start_delay_us + shift_us)
        self._ready.append(
            Frame(
                captured.index,
                registration.warped(captured.pixels),
                start_us,
                max(start_us, round(match.end_us - settings.end_delay_us + shift_us)),
                row_delay_us=settings.row_delay_us * registration.row_scale,
                transfer=self._transfer,
                received_ns=captured.received_ns,
                epoch=self._epoch,
            )
        )

    def _due(self, *, at_end: bool = False) -> Iterator[SourcePacket]:
        """Frames whose exposure the events have passed; at the end a heartbeat keeps the promise of order."""
        while self._ready and (at_end or self._ready[0].last_us <= self._watermark_us):
            frame = self._ready.popleft()
            if frame.last_us > self._watermark_us:
                self._watermark_us = math.ceil(frame.last_us)
                yield EventBatch.empty(math.ceil(frame.last_us), epoch=self._epoch)
            yield frame

    def _say(self, what: str, message: str, match: Match) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning("hybrid: " + message + " (said once; the end tells the totals)", match.stamp.index)
