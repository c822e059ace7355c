"""Wall time for a stream of packets: records that say how its device time maps to CLOCK_REALTIME."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from drivers.packets.arrivals import ArrivalLine
from drivers.packets.playback import packet_span_us
from drivers.packets.unix_time import absolute
from drivers.source import SourceInfo
from nire.types import EventBatch, Frame, SourcePacket, WallClock

LEAST_DELAY_US = 1000.0
"""A packet of a camera on a cable takes between 0 and this at least; see `source.arrival_us`."""
_LOOKS, _AT_ONCE_NS = 10, 20_000
_STEP_NS = 1_000_000  # beyond it the wall clock was set, or the machine slept
_PERIOD_US = 1e6  # from record to record, and the time in which a difference is worked off
_SHORTEST_US = 10_000.0
_FASTEST = 0.5  # while it is worked off: the wall clock never stands still
_SHARED_NS = 100_000_000  # between two looks at another stream's clock


class HostClocks(NamedTuple):
    """The host's clocks at one moment.

    Attributes:
        boot_minus_monotonic_ns: grows while the machine sleeps.
        wall_minus_boot_ns: changes when the wall clock is set.
    """

    boot_minus_monotonic_ns: int
    wall_minus_boot_ns: int


def host_clocks() -> HostClocks:
    """Read the host's clocks, as if at one moment: again where this process was held up in between."""
    shortest_ns, clocks = 1 << 62, HostClocks(0, 0)
    for _ in range(_LOOKS):
        before_ns = time.monotonic_ns()
        wall_ns, boot_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        took_ns = time.monotonic_ns() - before_ns
        if took_ns < shortest_ns:
            shortest_ns, clocks = took_ns, HostClocks(boot_ns - before_ns - took_ns // 2, wall_ns - boot_ns)
        if took_ns < _AT_ONCE_NS:
            break
    return clocks


def wall_timed(
    packets: Iterable[SourcePacket],
    info: SourceInfo,
    *,
    arrival_us: float | None = None,
    clocks: Callable[[], HostClocks] = host_clocks,
) -> Iterator[SourcePacket]:
    """Add clock records to what a camera sends, and to a recording whose times count from 1970.

    Args:
        packets: cleaned.
        info: of their source.
        arrival_us: time that a packet takes at the least from the device's stamp to the host; None = not known.
        clocks: reads the host's clocks.
    """
    if not info.live or info.replayed:
        yield from absolute(packets) if info.unix_time else packets
        return
    clock = _Clock(arrival_us, clocks)
    for packet in packets:
        if isinstance(packet, EventBatch | Frame):
            yield from clock.records(packet)
        yield packet


def wall_shared(packets: Iterable[SourcePacket], read: Callable[[], WallClock | None]) -> Iterator[SourcePacket]:
    """Add the clock records of another stream, whose camera has the same clock as this one.

    Args:
        packets: cleaned.
        read: gives the newest record of the other stream; None while it has none.
    """
    said: WallClock | None = None
    due_ns = 0
    for packet in packets:
        if isinstance(packet, EventBatch | Frame) and (packet.received_ns >= due_ns or _is_later(packet, said)):
            due_ns = packet.received_ns + _SHARED_NS
            record = read()
            if record is not None and (record := replace(record, epoch=packet.epoch)) != said:
                said = record
                yield record
        yield packet


def _is_later(packet: EventBatch | Frame, said: WallClock | None) -> bool:
    return said is not None and packet.epoch > said.epoch


class _Clock:
    """What is known of one camera's clock, and what was last said about it.

    What is said of wall time is continuous and goes forward; differences are worked off within a second. It steps only
    with the wall clock itself, with a new epoch, or when the device's clock jumped.
    """

    def __init__(self, arrival_us: float | None, clocks: Callable[[], HostClocks]) -> None:
        self._delay_us = LEAST_DELAY_US / 2 if arrival_us is None else arrival_us
        self._delay_doubt_us = LEAST_DELAY_US / 2 if arrival_us is None else 0.0
        self._clocks = clocks
        self._line = ArrivalLine()
        self._host = clocks()
        self._said: WallClock | None = None
        self._said_us = 0  # when, device time
        self._newest_us = 0

    def records(self, packet: EventBatch | Frame) -> Iterator[WallClock]:
        """Take a packet; give the record that is due before it."""
        said, (first_us, device_us) = self._said, packet_span_us(packet)
        if not packet.received_ns or (said is not None and packet.epoch < said.epoch):
            return
        before, self._host = self._host, self._clocks()
        is_set = abs(self._host.wall_minus_boot_ns - before.wall_minus_boot_ns) > _STEP_NS
        has_slept = abs(self._host.boot_minus_monotonic_ns - before.boot_minus_monotonic_ns) > _STEP_NS
        begins = said is None or packet.epoch > said.epoch
        if begins:
            self._line = ArrivalLine()
        elif has_slept:
            self._line.doubt()
        line = self._line.add(device_us, (packet.received_ns + self._host.boot_minus_monotonic_ns) / 1000)
        jumps, self._line = line is not self._line, line
        reached_us = self._newest_us
        self._newest_us = device_us if begins else max(device_us, reached_us)
        if said is None or begins:
            yield self._say(self._estimate(first_us, packet), device_us)
        elif is_set:
            yield self._say(self._estimate(reached_us, packet), device_us)
        elif jumps or has_slept or self._is_due(said, device_us):
            at_us = max(first_us, reached_us) if jumps else reached_us
            told_ns = said.wall_at(reached_us) + (1000 if jumps else 0)
            yield self._say(_joined(self._estimate(at_us, packet), told_ns, leaps=jumps), device_us)

    def _estimate(self, device_us: int, packet: EventBatch | Frame) -> WallClock:
        """The best that is known at a device time."""
        host_us = self._line.host_us(device_us) - self._delay_us
        return WallClock(
            device_us,
            round(host_us * 1000) + self._host.wall_minus_boot_ns,
            rate=1 + self._line.drift,
            uncertainty_us=self._line.doubt_us + self._delay_doubt_us,
            rate_uncertainty=self._line.drift_doubt,
            received_ns=packet.received_ns,
            epoch=packet.epoch,
        )

    def _is_due(self, said: WallClock, device_us: int) -> bool:
        """Tell whether what was said is old, or off by more than was said, or can be said much better."""
        since_us = device_us - self._said_us
        if since_us < _SHORTEST_US or since_us >= _PERIOD_US:
            return since_us >= _PERIOD_US
        host_us = self._line.host_us(device_us) - self._delay_us
        off_us = abs(host_us + self._host.wall_minus_boot_ns / 1000 - said.wall_at(device_us) / 1000)
        doubt_us, said_us = off_us + self._line.doubt_us + self._delay_doubt_us, said.uncertainty_at(device_us) or 0.0
        return doubt_us > said_us or doubt_us < said_us / 2

    def _say(self, record: WallClock, device_us: int) -> WallClock:
        self._said, self._said_us = record, device_us
        return record


def _joined(estimate: WallClock, told_ns: int, *, leaps: bool) -> WallClock:
    """Begin where the last record has come to, `told_ns`, and reach the estimate within a second, never going back.

    What is more than half a second ahead of it is reached at once; with `leaps`, whatever is ahead.
    """
    ahead_us = (estimate.wall_ns - told_ns) / 1000
    if ahead_us > (0 if leaps else _FASTEST * _PERIOD_US):
        return estimate
    return replace(
        estimate,
        wall_ns=told_ns,
        rate=max(_FASTEST, estimate.rate + ahead_us / _PERIOD_US),
        uncertainty_us=(estimate.uncertainty_us or 0.0) + abs(ahead_us),
    )
