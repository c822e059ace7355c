"""The one door for packets into the system: what sources get wrong is put right here, counted, and said once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drivers.packets.clock import CLAMP_US, LATEST_US, ClockReset, SteadyClock
from drivers.packets.epochs import Epochs
from drivers.source import Source
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, SourcePacket, WallClock

_OUTSIDE_SHARE = 0.01
_STRAY_SHARE, _STRAY_AFTER = 0.01, 100  # of the events, and in all
_RESETS, _EVENTS_OF_A_RESET = 8, 1000  # so many, with fewer events to each, are no resets
_OUTSIDE_AFTER = 10_000  # events; before that the share is only known at the end

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class CleaningCounters:
    """What was put right so far.

    Attributes:
        events: that came in.
        events_clamped: time stamps that went back by at most 1 ms and were held at the latest time.
        events_outside: events off the sensor, dropped.
        events_stray: dated far off those around them, dropped.
        clock_resets: times that the device clock went back further and stayed there.
        frames_stale: frames of the clock before a reset that came after it, dropped.
        frames_repeated: frames with the number and the time of the one before them, dropped.
        frame_counts_restarted: times that the numbers of frames went back though time did not; they go on.
        exposures_unknown: frames whose exposure neither the source nor the config knows; they pass as instants.
    """

    events: int = 0
    events_clamped: int = 0
    events_outside: int = 0
    events_stray: int = 0
    clock_resets: int = 0
    frames_stale: int = 0
    frames_repeated: int = 0
    frame_counts_restarted: int = 0
    exposures_unknown: int = 0


def cleaned(
    source: Source,
    *,
    row_delay_us: float = 0.0,
    exposure_us: float | Literal["recorded"] = "recorded",
    epochs: Epochs | None = None,
) -> CleanedPackets:
    """Pass a source's packets on in good order.

    Time within an epoch never goes back, events lie on the sensor, a frame follows the events of its exposure.

    Args:
        source: entered.
        row_delay_us: alpha for frames that do not say.
        exposure_us: exposure for frames that do not carry it, centred on their one time stamp.
        epochs: numbers the lives of the clock, where the stream goes on from another source; None = from 0.
    """
    return CleanedPackets(source, row_delay_us=row_delay_us, exposure_us=exposure_us, epochs=epochs or Epochs())


class CleanedPackets:
    """An iterator over packets, once.

    Attributes:
        counters: what was put right so far.
    """

    def __init__(
        self, source: Source, *, row_delay_us: float, exposure_us: float | Literal["recorded"], epochs: Epochs
    ) -> None:
        """See `cleaned`."""
        self.counters = CleaningCounters()
        self._source = source
        self._geometry = source.info.geometry
        self._row_delay_us = row_delay_us
        self._exposure_us = exposure_us
        self._floor_us: int | None = None  # no event of this epoch may be earlier
        self._frame_us: int | None = None  # start of the newest frame of this epoch
        self._newest = (0, -1)  # the source's epoch, and the index that the newest frame of it was passed on with
        self._ahead = 0  # by which such indices are more than those of the source
        self._clock = SteadyClock()
        self._passed = 0  # events
        self._epochs = epochs
        self._waiting: list[Frame] = []  # their epochs are the stream's
        self._damage: RecordingDamaged | None = None  # told once all before it has passed
        self._said: set[str] = set()

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield packets.

        Raises:
            RecordingDamaged: an event has a time that no clock shows, more than 1 % of the events lie outside the
                sensor, or the source is damaged; after all events before that, and the frames that they have passed.
            SourceError: a frame has another size than the sensor, events have no order; or whatever the source raises.
        """
        try:
            for packet in self._source:
                if self._damage is not None and isinstance(packet, EventBatch | Gap):
                    break  # frames of the time before the damage come right after its batch
                yield from self._passed_on(packet)
        except RecordingDamaged as error:
            self._damage = self._damage or error
        yield from self._steady(self._clock.settle())
        if self._damage is not None:
            raise self._damage
        yield from self._waiting
        self._waiting = []
        if self._are_many_outside(at_end=True):
            raise RecordingDamaged(self._outside_in_words())

    def _passed_on(self, packet: SourcePacket) -> Iterator[SourcePacket]:
        if isinstance(packet, EventBatch):
            yield from self._events(packet)
        elif isinstance(packet, Frame):
            yield from self._frame(packet)
        elif isinstance(packet, Gap):
            yield from self._steady(self._clock.settle())
            yield self._epochs.numbered(packet)
        elif isinstance(packet, WallClock):
            yield self._epochs.numbered(packet)
        else:
            yield packet

    def _events(self, batch: EventBatch) -> Iterator[SourcePacket]:
        batch = self._of_a_clock(batch)
        self.counters.events += len(batch)
        batch = self._on_sensor(batch)
        if self._damage is None or len(batch):
            yield from self._steady(self._clock.feed(batch))
        if self._damage is not None:
            yield from self._steady(self._clock.settle())

    def _steady(self, pieces: Iterator[EventBatch | ClockReset]) -> Iterator[SourcePacket]:
        """Pass on what the clock gives, epoch by epoch."""
        for piece in pieces:
            self._count_strays()
            self._check_order()
            if isinstance(piece, ClockReset):
                yield from self._reset(piece.t_us, piece.received_ns, piece.epoch)
            else:
                self._passed += len(piece)
                yield self._epochs.numbered(self._in_order(piece))
                yield from self._due()
        self._count_strays()

    def _count_strays(self) -> None:
        if self._clock.strays > self.counters.events_stray:
            self.counters.events_stray = self._clock.strays
            self._say("stray", "events dated far off the others are dropped (first: %d)", self._clock.strays)

    def _on_sensor(self, batch: EventBatch) -> EventBatch:
        width, height = self._geometry.width, self._geometry.height
        if not len(batch) or (batch.x.max() < width and batch.y.max() < height):
            return batch
        good = (batch.x < width) & (batch.y < height)
        outside = len(batch) - int(np.count_nonzero(good))
        self.counters.events_outside += outside
        self._say("outside", "events outside the sensor are dropped (first: %d in one batch)", outside)
        if not self._are_many_outside(at_end=False):
            return batch.part(good)
        # The damage begins where the share of those outside rises above the limit for good.
        seen = self.counters.events - len(batch) + np.arange(1, len(batch) + 1)
        lost = self.counters.events_outside - outside + np.cumsum(~good)
        fine = np.flatnonzero(lost <= _OUTSIDE_SHARE * seen)
        stop = int(fine[-1]) + 1 if fine.size else 0
        first = self.counters.events - len(batch) + stop
        self._damage = RecordingDamaged(f"{self._outside_in_words()} All before event {first} was delivered", first)
        return _until(batch.part(good & (np.arange(len(batch)) < stop)))

    def _are_many_outside(self, *, at_end: bool) -> bool:
        total, outside = self.counters.events, self.counters.events_outside
        return outside > _OUTSIDE_SHARE * total and (at_end or total >= _OUTSIDE_AFTER)

    def _outside_in_words(self) -> str:
        size = f"{self._geometry.width} x {self._geometry.height}"
        return (
            f"{self._source.info.name}: {self.counters.events_outside} of {self.counters.events} events lie outside "
            f"the sensor of {size}; at most 1 % is taken for noise. Is this the right sensor size, or is the recording "
            "damaged?"
        )

    def _of_a_clock(self, batch: EventBatch) -> EventBatch:
        """Cut a batch before the first time that no clock shows, which is damage."""
        ends_us = (int(batch.t_us.min()), int(batch.t_us.max())) if len(batch) else ()
        if max(map(abs, (*ends_us, batch.watermark_us))) <= LATEST_US:
            return batch
        wrong = np.flatnonzero((batch.t_us < -LATEST_US) | (batch.t_us > LATEST_US))
        at, t_us = (int(wrong[0]), int(batch.t_us[wrong[0]])) if wrong.size else (len(batch), batch.watermark_us)
        first = self.counters.events + at
        self._damage = RecordingDamaged(
            f"{self._source.info.name}: event {first} is dated {t_us} us, expected at most {LATEST_US} either way: the "
            "recording is damaged there; all before was delivered",
            first,
        )
        return _until(batch, at)

    def _check_order(self) -> None:
        """Refuse a stream without an order: neither sorting nor beginning again makes sense of it."""
        wrong, steps = self.counters.events_stray, self.counters.clock_resets
        are_many = wrong > max(_STRAY_AFTER, _STRAY_SHARE * self._passed)
        if are_many or (steps >= _RESETS and self._passed < steps * _EVENTS_OF_A_RESET):
            raise SourceError(
                f"{self._source.info.name} is not in the order of time: of its first {self._passed + wrong} events "
                f"{wrong} are dated far off the others, and {steps} times the clock went back. To fix it, sort the "
                "events by time; readers of text, arrays and HDF5 do so within source.settings.sort_us"
            )

    def _in_order(self, batch: EventBatch) -> EventBatch:
        """Clamp small steps back and keep the watermark's promise."""
        t_us = batch.t_us
        floor_us = (
            self._floor_us if self._floor_us is not None else (int(t_us[0]) if len(batch) else batch.watermark_us)
        )
        if len(batch) and (t_us[0] < floor_us or _goes_back(t_us)):
            clamped = np.maximum(np.maximum.accumulate(t_us), floor_us)
            self.counters.events_clamped += int(np.count_nonzero(clamped != t_us))
            self._say("clamped", "event times that go back by at most %d us are clamped", CLAMP_US)
            batch = replace(batch, t_us=clamped)
        watermark_us = max(batch.watermark_us, floor_us, int(batch.t_us[-1]) if len(batch) else floor_us)
        self._floor_us = watermark_us
        return batch if watermark_us == batch.watermark_us else replace(batch, watermark_us=watermark_us)

    def _reset(self, t_us: int, received_ns: int, epoch: int) -> Iterator[SourcePacket]:
        """Begin a new epoch at a time of the new clock; `epoch` is the source's."""
        yield from self._waiting
        self._waiting = []
        back_us = max(known for known in (self._floor_us, self._frame_us, t_us) if known is not None) - t_us
        self.counters.clock_resets += 1
        self._epochs.clock_began_again()
        self._floor_us = t_us
        self._frame_us = None
        self._newest, self._ahead = (epoch, -1), 0
        _log.warning("%s: the device clock went back by %d us: a new epoch begins", self._source.info.name, back_us)
        reason = f"the device clock went back by {back_us} us"
        yield self._epochs.numbered(Gap(t_us, t_us, reason, received_ns, epoch))

    def _frame(self, frame: Frame) -> Iterator[SourcePacket]:
        if self._tells_of_held(frame):
            yield from self._steady(self._clock.settle())
        frame = self._completed(frame)
        if self._frame_us is not None and frame.exposure_start_us < self._frame_us - CLAMP_US:
            # Ahead of the events in telling that the clock began again; they follow without a second reset.
            yield from self._reset(frame.exposure_start_us, frame.received_ns, frame.epoch)
            self._clock.begin_at(frame.exposure_start_us)
        elif self._stale(frame):
            self.counters.frames_stale += 1
            self._say("stale", "frame %d belongs to the clock before its reset and is dropped", frame.index)
            return
        elif self._repeated(frame):
            self.counters.frames_repeated += 1
            self._say("repeated", "frame %d comes twice; it is used once", frame.index)
            return
        self._frame_us = frame.exposure_start_us
        self._waiting.append(self._epochs.numbered(self._counted_on(frame)))
        yield from self._due()

    def _tells_of_held(self, frame: Frame) -> bool:
        """Tell whether a frame is of the clock of the events that wait, rather than of that of the ones before."""
        held_us, floor_us = self._clock.held_us, self._floor_us
        return held_us is not None and (
            floor_us is None or abs(frame.last_us - held_us) < abs(frame.last_us - floor_us)
        )

    def _stale(self, frame: Frame) -> bool:
        """A frame far ahead of the events, right after a reset: its clock is the old one."""
        fresh = self.counters.clock_resets > 0 and self._frame_us is None and self._floor_us is not None
        return fresh and frame.last_us > (self._floor_us or 0) + 1_000_000

    def _repeated(self, frame: Frame) -> bool:
        """A frame with the number and the time of the newest one."""
        epoch, newest = self._newest
        return (frame.epoch, frame.index + self._ahead, frame.exposure_start_us) == (epoch, newest, self._frame_us)

    def _counted_on(self, frame: Frame) -> Frame:
        """Let numbers of frames grow within an epoch: whoever gets them takes a smaller one for an old frame."""
        epoch, newest = self._newest
        if frame.epoch != epoch:
            newest, self._ahead = -1, 0
        elif frame.index + self._ahead <= newest:
            self.counters.frame_counts_restarted += 1
            self._say("restarted", "the count of frames goes back to %d, time does not: it goes on", frame.index)
            self._ahead = newest + 1 - frame.index
        self._newest = frame.epoch, frame.index + self._ahead
        return replace(frame, index=frame.index + self._ahead) if self._ahead else frame

    def _completed(self, frame: Frame) -> Frame:
        wanted, found = (self._geometry.height, self._geometry.width), frame.pixels.shape[:2]
        if found != wanted:
            raise SourceError(
                f"{self._source.info.name}: frame {frame.index} is {found[1]} x {found[0]} pixels, the sensor of the "
                f"events {wanted[1]} x {wanted[0]}: frames and events must share one pixel grid"
            )
        if self._row_delay_us and not frame.row_delay_us:
            frame = replace(frame, row_delay_us=self._row_delay_us)
        if frame.exposure_known:
            return frame
        if self._exposure_us == "recorded":
            self.counters.exposures_unknown += 1
            self._say(
                "exposure",
                "the exposure of frame %d is unknown: taken for an instant; see source.exposure_us",
                frame.index,
            )
            return frame
        half_us = self._exposure_us / 2
        start_us = round(frame.exposure_start_us - half_us)
        return replace(
            frame,
            exposure_start_us=start_us,
            exposure_end_us=start_us + round(self._exposure_us),
            exposure_known=True,
        )

    def _due(self) -> Iterator[Frame]:
        """Frames whose exposure the events have passed; all of them where there are no events."""
        while self._waiting and (self._floor_us is None or self._waiting[0].last_us <= self._floor_us):
            yield self._waiting.pop(0)

    def _say(self, what: str, message: str, value: int) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning("%s: " + message, self._source.info.name, value)


def _until(batch: EventBatch, stop: int | None = None) -> EventBatch:
    """The first events of a batch, without a promise beyond them."""
    t_us = batch.t_us[:stop]
    return batch.part(slice(stop), int(t_us.max()) if t_us.size else 0)


def _goes_back(t_us: NDArray[np.int64]) -> bool:
    return bool((t_us[1:] < t_us[:-1]).any())
