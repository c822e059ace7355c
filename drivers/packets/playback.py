"""Replay: a recording at the speed of its own clock, and a recording that begins again without end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from drivers.source import Source, SourceInfo
from nire.errors import ConfigError
from nire.types import EventBatch, Frame, Gap, SourcePacket, Trigger, WallClock

_PACKET_US = 2000
_LONGEST_WAIT_S = 0.05
_EARLY_NS = 1_000_000
SPEEDS = (0.001, 1000.0)
"""The slowest and the fastest replay that keeps time."""
_STEP_AT_MOST_US = 100_000
_SKIP_TELLS_S = 0.2


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replay is.

    Attributes:
        at_us: from the beginning of the recording, of the present round.
        length_us: of the recording; 0 = unknown.
        speed: factor on real time.
        held: it stands still.
    """

    at_us: int
    length_us: int
    speed: float
    held: bool


def play(source: Source, wishes: Mapping[str, Any]) -> bool:
    """Change how a replay goes on, between two of its packets.

    Args:
        source: a `PacedSource` that is being iterated.
        wishes: any of `speed` (factor), `held` (bool), `step` (true: on to the next frame, then held), `at_us`
            (where to go on, from the beginning of the recording).

    Returns:
        It is to go on somewhere else: iterate it again for that.

    Raises:
        ConfigError: it is no replay that keeps time, or wishes that cannot be; nothing was changed then.
    """
    if not isinstance(source, PacedSource) or not source.info.live:
        raise ConfigError("only a replay that keeps time can be played otherwise: 'nire-live replay --speed 1'")
    _check(wishes, source.place)
    if "speed" in wishes or "held" in wishes or "step" in wishes:
        source.go_on(
            speed=float(wishes.get("speed", source.place.speed)),
            held=bool(wishes.get("held", source.place.held or "step" in wishes)),
            step=bool(wishes.get("step", False)),
        )
    if "at_us" in wishes:
        source.move(round(wishes["at_us"]))
    return "at_us" in wishes


def _check(wishes: Mapping[str, Any], place: Place) -> None:
    """Refuse what no replay can do.

    Raises:
        ConfigError: it says what was expected.
    """
    for name, value in wishes.items():
        if name not in ("speed", "held", "step", "at_us"):
            raise ConfigError(f"a replay knows no {name!r}, expected speed, held, step or at_us")
        if name in ("held", "step") and not isinstance(value, bool):
            raise ConfigError(f"{name} = {value!r}: expected true or false")
        if name in ("speed", "at_us") and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"{name} = {value!r}: expected a number")
    if not SPEEDS[0] <= wishes.get("speed", 1) <= SPEEDS[1]:
        raise ConfigError(f"speed = {wishes['speed']}: expected a factor from {SPEEDS[0]:g} to {SPEEDS[1]:g}")
    last_us = place.length_us or math.inf
    if not 0 <= wishes.get("at_us", 0) <= last_us:
        raise ConfigError(f"at_us = {wishes['at_us']}: the recording goes from 0 to {last_us:g} us")


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
    empty batch, so that whoever iterates stays responsive. Between two packets it can be held, stepped, made faster
    or slower (`go_on`), and moved (`move`).
    """

    def __init__(self, source: Source, speed: float) -> None:
        """Wrap; `paced` checks."""
        self._source = source
        self._speed = speed
        self._held = False
        self._step_until_us: int | None = None
        self._start_us = 0
        self._first_us: int | None = None
        self._shown_us = 0
        self._anchor: tuple[int, int] | None = None  # (device us, host ns) that belong together

    @property
    def info(self) -> SourceInfo:
        """The source's own, now keeping time."""
        return replace(self._source.info, live=math.isfinite(self._speed), replayed=True)

    @property
    def place(self) -> Place:
        """Where it is."""
        round_us = self._source.round_us if isinstance(self._source, LoopedSource) else self._source.info.duration_us
        began_us = self._source.began_us if isinstance(self._source, LoopedSource) else self._first_us
        at_us = max(0, self._shown_us - began_us) if began_us is not None else self._start_us
        return Place(min(at_us, round_us or at_us), round_us or 0, self._speed, self._held)

    def go_on(self, *, speed: float, held: bool, step: bool = False) -> None:
        """Change the pace.

        Args:
            speed: factor on real time, > 0.
            held: stand still.
            step: on to the next frame, or 0.1 s where none comes, whatever `held` says.
        """
        self._speed, self._held = speed, held
        self._step_until_us = self._shown_us + _STEP_AT_MOST_US if step else None
        self._anchor = (self._shown_us, time.monotonic_ns())

    def move(self, at_us: int) -> None:
        """Begin the next iteration `at_us` after the beginning of the recording."""
        self._start_us = at_us
        self._anchor = None
        if self._held:  # what is there is to be seen
            self._step_until_us = -1

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
        self._anchor = None
        latest_us = 0
        heartbeat: EventBatch | None = None
        for whole in self._from_start():
            for packet in _pieces(whole):
                _, due_us = packet_span_us(packet)
                if self._anchor is None or due_us < latest_us - 1_000_000:  # the device clock began again
                    self._anchor, latest_us, self._shown_us = (due_us, time.monotonic_ns()), due_us, due_us
                    self._begin_step()
                latest_us = max(latest_us, due_us)
                # Inertial samples and edges come by the thousand, and images wait for none of them.
                early_ns = 0 if isinstance(packet, EventBatch | Frame | Gap | WallClock) else _EARLY_NS
                yield from self._wait(latest_us, early_ns, heartbeat)
                if isinstance(packet, EventBatch):
                    heartbeat = EventBatch.empty(packet.watermark_us, epoch=packet.epoch)
                self._shown_us = latest_us
                if isinstance(packet, Frame) or latest_us >= (self._step_until_us or latest_us):
                    self._step_until_us = None
                yield _received(packet)

    def _wait(self, due_us: int, early_ns: int, heartbeat: EventBatch | None) -> Iterator[EventBatch]:
        """Wait until device time `due_us` has come, however the pace changes meanwhile."""
        while self._step_until_us is None and (left_s := self._left_s(due_us, early_ns)) > 0:
            time.sleep(min(left_s, _LONGEST_WAIT_S))
            if heartbeat is None and self._held:  # whoever iterates has the word that ends this
                heartbeat = EventBatch.empty(self._first_us or 0)
            if left_s > _LONGEST_WAIT_S and heartbeat is not None:
                yield replace(heartbeat, received_ns=time.monotonic_ns())

    def _left_s(self, due_us: int, early_ns: int) -> float:
        if self._held:
            return math.inf
        anchor_us, anchor_ns = self._anchor or (due_us, 0)
        due_ns = anchor_ns + round((due_us - anchor_us) * 1000 / self._speed)
        return (due_ns - early_ns - time.monotonic_ns()) * 1e-9

    def _begin_step(self) -> None:
        if self._step_until_us is not None:
            self._step_until_us = self._shown_us + _STEP_AT_MOST_US

    def _from_start(self) -> Iterator[SourcePacket]:
        """The source's packets from where it was moved to; now and then a `Gap` while it is on its way there."""
        from_us: int | None = None
        is_there = self._start_us == 0
        told_s = time.monotonic()
        for packet in self._source:
            first_us, last_us = packet_span_us(packet)
            if from_us is None:
                self._first_us, from_us = first_us, first_us + self._start_us
            if not is_there and last_us < from_us:
                if time.monotonic() > told_s + _SKIP_TELLS_S:
                    told_s = time.monotonic()
                    yield Gap(self._first_us or 0, last_us, "skipped on the way to another place of the recording")
                continue
            if not is_there and isinstance(packet, EventBatch):
                packet = packet.part(slice(int(np.searchsorted(packet.t_us, from_us)), None))
                is_there = True
            yield packet


class LoopedSource:
    """A recording played again and again.

    Attributes:
        began_us: when the present round began, on the clock that goes on; None before the first packet.
    """

    def __init__(self, open_again: Callable[[], Source], times: int) -> None:
        """Wrap; `looped` checks."""
        self._times = times
        self._source = open_again()  # opened once: a source may be iterated again and again
        self.began_us: int | None = None

    @property
    def info(self) -> SourceInfo:
        """The recording's own, with the length of all rounds."""
        info = self._source.info
        whole = info.duration_us * self._times if info.duration_us is not None and self._times else None
        return replace(info, duration_us=whole)

    @property
    def round_us(self) -> int | None:
        """Length of one round; None where unknown."""
        return self._source.info.duration_us

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
                if first_us is None:
                    self.began_us = span[0] + shift_us
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
