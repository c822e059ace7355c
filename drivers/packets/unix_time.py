"""Recordings in Unix time: packets restamped for formats that have it, and a recording's own times recognised as it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from drivers.packets.playback import packet_span_us
from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket, Trigger, WallClock
from nire.wall_time import WallTimes

_UNIX_US = 1_000_000_000_000_000, 4_000_000_000_000_000  # 2001 to 2096: no clock that counts from its power-up


def absolute(packets: Iterable[SourcePacket]) -> Iterator[SourcePacket]:
    """Add the record that device time is Unix time, where the first time stamp can be nothing else.

    Args:
        packets: of a format whose times count from 1970 where they were known; a clock record of its own stays.
    """
    first = True
    for packet in packets:
        if first and isinstance(packet, EventBatch | Frame):
            first_us = packet_span_us(packet)[0]
            if _UNIX_US[0] <= first_us < _UNIX_US[1]:
                yield WallClock(first_us, 1000 * first_us, epoch=packet.epoch)
        first = first and not isinstance(packet, EventBatch | Frame | WallClock)
        yield packet


class UnixStamps:
    """Turns device time into Unix time, us, as far as the packets bring clock records; what comes without stays."""

    def __init__(self) -> None:
        """Know no clock yet."""
        self._times = WallTimes()
        self._epoch = 0

    def restamped(self, packet: SourcePacket) -> SourcePacket:
        """Give a packet with its times on the wall's clock; the order of times stays within an epoch."""
        if isinstance(packet, WallClock):
            self._times.add(packet)
            return packet
        if isinstance(packet, EventBatch | Frame | Gap):
            self._epoch = packet.epoch
        newest = self._times.newest
        if newest is None or newest.epoch != self._epoch:
            return packet
        if isinstance(packet, EventBatch):
            # A record comes before the events that it holds for: they have the newest.
            passed_us = (packet.t_us - newest.device_us) * newest.rate
            t_us = newest.wall_ns // 1000 + np.floor(passed_us).astype(np.int64)
            return replace(packet, t_us=t_us, watermark_us=max(self._us(packet.watermark_us), *t_us[-1:].tolist(), 0))
        if isinstance(packet, Frame):
            start_us = self._us(packet.exposure_start_us)
            end_us = max(start_us, self._us(packet.exposure_end_us))
            return replace(packet, exposure_start_us=start_us, exposure_end_us=end_us)
        if isinstance(packet, Gap):
            return replace(packet, t0_us=self._us(packet.t0_us), t1_us=self._us(packet.t1_us))
        if isinstance(packet, ImuBatch):
            return replace(packet, t_us=np.array([self._us(t_us) for t_us in packet.t_us.tolist()], np.int64))
        return Trigger(self._us(packet.t_us), packet.channel, packet.rising)

    def _us(self, device_us: int) -> int:
        wall = self._times.at(device_us, self._epoch)
        return device_us if wall is None else wall.wall_ns // 1000
