"""Replay: a recording at the speed of its own clock, and a recording that begins again without end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from drivers.source import Source, SourceInfo
from nire.errors import ConfigError
from nire.types import EventBatch, Frame, Gap, SourcePacket, Trigger, WallClock

_PACKET_US = 2000
_LONGEST_WAIT_S = 0.05
_EARLY_NS = 1_000_000


def paced(source: Source, speed: float) -> PacedSource:
    """Replay a source by its device clock.

    Args:
        source: a recording.
        speed: 1 = as it was, 0.5 = half as fast, `math.inf` = as fast as packets are taken.

    Raises:
        ConfigError: the speed is not positive.
    """
    if not speed > 0:
        raise ConfigError(f"speed {speed!r}: expected a positive number, or max")
    return PacedSource(source, speed)


def looped(open_again: Callable[[], Source], times: int) -> LoopedSource:
    """Play a recording several times as one stream: the clock and the frame count go on over the seam.

    The seam is a cut in the picture: frames and events on its two sides do not belong together, and no `Gap` says so.

    Args:
        open_again: opens the recording.
        times: rounds; 0 = without end.

    Raises:
        ConfigError: a negative number of rounds.
    """
    if times < 0:
        raise ConfigError(f"{times} loops: expected 0 (for ever) or more")
    return LoopedSource(open_again, times)


class PacedSource:
    """A source that waits until each packet is due, and stamps it then.

    Inertial samples and edges leave up to a millisecond early. While it waits long it repeats its last watermark as an
    empty batch, so that whoever iterates stays responsive.
    """

    def __init__(self, source: Source, speed: float) -> None:
        """Wrap; `paced` checks."""
        self._source = source
        self._speed = speed

    @property
    def info(self) -> SourceInfo:
        """The source's own, now keeping time."""
        return replace(self._source.info, live=math.isfinite(self._speed), replayed=True)

    def __enter__(self) -> Self:
        """Open the source."""
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the source."""
        self._source.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield packets when they are due; large event batches in pieces of 2 ms."""
        if not math.isfinite(self._speed):
            yield from (_received(packet) for packet in self._source)
            return
        anchor: tuple[int, int] | None = None  # (device us, host ns) that belong together
        latest_us = 0
        heartbeat: EventBatch | None = None
        for whole in self._source:
            for packet in _pieces(whole):
                _, due_us = packet_span_us(packet)
                if anchor is None or due_us < latest_us - 1_000_000:  # the device clock began again
                    anchor, latest_us = (due_us, time.monotonic_ns()), due_us
                latest_us = max(latest_us, due_us)
                due_ns = anchor[1] + round((latest_us - anchor[0]) * 1000 / self._speed)
                # Inertial samples and edges come by the thousand, and images wait for none of them.
                early_ns = 0 if isinstance(packet, EventBatch | Frame | Gap | WallClock) else _EARLY_NS
                yield from self._wait(due_ns - early_ns, heartbeat)
                if isinstance(packet, EventBatch):
                    heartbeat = EventBatch.empty(packet.watermark_us, epoch=packet.epoch)
                yield _received(packet)

    def _wait(self, until_ns: int, heartbeat: EventBatch | None) -> Iterator[EventBatch]:
        while (left_s := (until_ns - time.monotonic_ns()) * 1e-9) > 0:
            time.sleep(min(left_s, _LONGEST_WAIT_S))
            if left_s > _LONGEST_WAIT_S and heartbeat is not None:
                yield replace(heartbeat, received_ns=time.monotonic_ns())


class LoopedSource:
    """A recording played again and again."""

    def __init__(self, open_again: Callable[[], Source], times: int) -> None:
        """Wrap; `looped` checks."""
        self._times = times
        self._source = open_again()  # opened once: a source may be iterated again and again

    @property
    def info(self) -> SourceInfo:
        """The recording's own, with the length of all rounds."""
        info = self._source.info
        whole = info.duration_us * self._times if info.duration_us is not None and self._times else None
        return replace(info, duration_us=whole)

    def __enter__(self) -> Self:
        """Open the recording, so that `info` is complete."""
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the recording."""
        self._source.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield the packets of all rounds; a recording without a single packet ends it."""
        played = shift_us = shift_index = 0
        while self._times == 0 or played < self._times:
            first_us = last_us = None
            first_index = last_index = None
            for packet in self._source:
                span = packet_span_us(packet)
                first_us = span[0] if first_us is None else min(first_us, span[0])
                last_us = span[1] if last_us is None else max(last_us, span[1])
                if isinstance(packet, Frame):
                    first_index = packet.index if first_index is None else first_index
                    last_index = packet.index
                yield _shifted(packet, shift_us, shift_index)
            if first_us is None or last_us is None:
                return
            played += 1
            shift_us += last_us - first_us
            if first_index is not None and last_index is not None:
                shift_index += last_index - first_index + 1


def _received(packet: SourcePacket) -> SourcePacket:
    """Stamp a packet with the host's time of this moment."""
    if isinstance(packet, EventBatch | Frame | Gap):
        return replace(packet, received_ns=time.monotonic_ns())
    return packet


def _pieces(packet: SourcePacket) -> Iterator[SourcePacket]:
    """Cut an event batch at multiples of 2 ms; anything else passes."""
    if not isinstance(packet, EventBatch) or not len(packet) or packet.t_us[-1] - packet.t_us[0] < _PACKET_US:
        yield packet
        return
    slot = packet.t_us // _PACKET_US
    cuts = np.flatnonzero(np.diff(slot)) + 1
    start = 0
    for cut in cuts:
        yield packet.part(slice(start, int(cut)), int(packet.t_us[cut]))
        start = int(cut)
    yield packet.part(slice(start, None))


def _shifted(packet: SourcePacket, shift_us: int, shift_index: int) -> SourcePacket:
    if not shift_us and not shift_index:
        return packet
    if isinstance(packet, EventBatch):
        return replace(packet, t_us=packet.t_us + shift_us, watermark_us=packet.watermark_us + shift_us)
    if isinstance(packet, Frame):
        return replace(
            packet,
            index=packet.index + shift_index,
            exposure_start_us=packet.exposure_start_us + shift_us,
            exposure_end_us=packet.exposure_end_us + shift_us,
        )
    if isinstance(packet, Gap):
        return replace(packet, t0_us=packet.t0_us + shift_us, t1_us=packet.t1_us + shift_us)
    if isinstance(packet, WallClock):
        return replace(packet, device_us=packet.device_us + shift_us)
    if isinstance(packet, Trigger):
        return replace(packet, t_us=packet.t_us + shift_us)
    return replace(packet, t_us=packet.t_us + shift_us)


def packet_span_us(packet: SourcePacket) -> tuple[int, int]:
    """First and last device time that a packet speaks of, microseconds."""
    if isinstance(packet, EventBatch):
        return (int(packet.t_us[0]) if len(packet) else packet.watermark_us), packet.watermark_us
    if isinstance(packet, Frame):
        return int(np.floor(packet.first_us)), int(np.ceil(packet.last_us))
    if isinstance(packet, Gap):
        return packet.t0_us, packet.t1_us
    if isinstance(packet, WallClock):
        return packet.device_us, packet.device_us
    if isinstance(packet, Trigger):
        return packet.t_us, packet.t_us
    if packet.t_us.size:
        return int(packet.t_us[0]), int(packet.t_us[-1])
    raise ValueError(f"a {type(packet).__name__} without a time")
