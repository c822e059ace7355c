"""The rings: packets from one producer to any number of readers, in shared memory.

A stream has a place of its own (`stream.rings.place`) with two rings, `events` (event batches, gaps, end of stream) and
`frames`, what wakes readers of both, and a file that says what is known of the source. The oldest packet gives way when
a reader is slower than the ring is deep. What carries the packets lies behind one interface (`stream.rings.carriers`).

Readers get copies, in blocks of their own (`stream.blocks`): 13 bytes an event cost little, and a slow reader never
holds memory of the ring. Nothing here blocks a writer, and a killed writer or reader blocks nobody.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

import numpy as np

from drivers.source import SourceInfo
from nire.errors import RingError
from nire.types import Frame, Geometry, Packet, WallClock
from stream.blocks import Blocks
from stream.clock import now_ns
from stream.config_sections import RingConfig
from stream.rings import carriers, packets, place
from stream.rings.carriers import Carrier
from stream.rings.numbering import Ledger
from stream.rings.packets import Header, Kind
from stream.rings.place import RingSpace
from stream.rings.reordering import Continuity, Mark

MAX_FRAME_HZ = 120
"""Frames a second that the frame ring's depth is made for; faster cameras get fewer seconds."""
_HELLO_POLL_S = 0.02


def event_depth(ring: RingConfig) -> int:
    """Packets that the event ring keeps for each reader: `ring.seconds` at one packet per `ring.packet_us`."""
    return max(8, math.ceil(ring.seconds * 1e6 / ring.packet_us))


def frame_depth(ring: RingConfig) -> int:
    """Frames that the frame ring keeps for each reader."""
    return max(8, math.ceil(ring.seconds * MAX_FRAME_HZ))


def events_per_packet(ring: RingConfig) -> int:
    """Largest packet: what the stated peak rate brings within `ring.packet_us`; more is split."""
    return max(1024, math.ceil(ring.peak_rate_meps * ring.packet_us))


def event_memory_bytes(ring: RingConfig) -> int:
    """Shared memory that a full event ring takes: its readers share packets, and memory is taken as it is written."""
    return event_depth(ring) * packets.event_packet_bytes(events_per_packet(ring))


def frame_memory_bytes(ring: RingConfig, geometry: Geometry) -> int:
    """Shared memory that a full frame ring takes."""
    return frame_depth(ring) * packets.frame_packet_bytes(geometry)


def event_file_bytes(ring: RingConfig) -> int:
    """Size of the event ring's file."""
    used = carriers.carrier(carriers.usual() if ring.carrier == "auto" else ring.carrier)
    size: int = used.file_bytes(event_depth(ring), packets.event_packet_bytes(events_per_packet(ring)))
    return size


def require_room(ring: RingConfig, geometry: Geometry | None = None, *, others: Iterable[RingConfig] = ()) -> None:
    """Check that the rings have their place, before they are made.

    Args:
        ring: depth and packet size.
        geometry: of the sensor; None where it is not known yet: then of the event rings only.
        others: of further streams, whose event rings are to be made as well.

    Raises:
        RingError: a folder cannot be written, or shared memory has less room than full rings take.
    """
    place.require_writable()
    events = [event_memory_bytes(each) for each in (ring, *others)]
    frames = 0 if geometry is None else frame_memory_bytes(ring, geometry)
    what = "the rings take" if frames or len(events) > 1 else "the event ring takes"
    place.require_memory(sum(events) + frames, what)


def sweep(name: str) -> bool:
    """Remove what dead processes left of a stream, and everything when none is alive.

    Returns:
        True when nothing of the stream is left.
    """
    space = RingSpace.of(name)
    with space.locked():
        # Something may be held by a process that is none of the rings': the board of a supervisor.
        return _sweep(space) and not space.leftovers()


def clock_of(name: str) -> WallClock | None:
    """How a running stream's device time maps to wall time; None where there is no such stream, or it does not know."""
    data = RingSpace.of(name).read_clock()
    packet = packets.read(np.frombuffer(data, np.uint8), Blocks())[1] if data else None
    return packet if isinstance(packet, WallClock) else None


class _Member:
    """One process's part in a stream: its carrier, and leaving without a trace."""

    def __init__(self, name: str, ring: RingConfig) -> None:
        self.name = name
        self._space = RingSpace.of(name)
        self._joined: Carrier | None = None
        with self._space.locked():
            lives = not _sweep(self._space, keep_place=True)
            try:
                self._joined = self._join(ring, self._space.carrier if lives else "")
                self._open(self._joined)
            except BaseException:
                self._drop()
                _sweep(self._space)
                raise

    def close(self) -> None:
        """Leave; the last one takes everything away. Safe to call twice."""
        if self._joined is None:
            return
        with self._space.locked():
            self._drop()
            _sweep(self._space)

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave."""
        self.close()

    @property
    def _carrier(self) -> Carrier:
        if self._joined is None:
            raise RingError(f"the rings {self.name!r} were left: make or join them anew")
        return self._joined

    def _join(self, ring: RingConfig, present: str) -> Carrier:
        """Join by the carrier of the stream that lives; make the rings where none does."""
        wanted = (present or carriers.usual()) if ring.carrier == "auto" else ring.carrier
        if present and wanted != present:
            raise carriers.other_settings(self.name, f"carrier {present}, here {wanted}")
        used = carriers.carrier(wanted)
        self._space.write_carrier(wanted)
        joined: Carrier = used.join(self.name, self._space, {"events": event_depth(ring), "frames": frame_depth(ring)})
        return joined

    def _open(self, carrier: Carrier) -> None:
        raise NotImplementedError

    def _drop(self) -> None:
        if self._joined is not None:
            self._joined.drop()
        self._joined = None


class RingWriter(_Member):
    """The producer's end. One per name at a time."""

    def __init__(self, name: str, geometry: Geometry, ring: RingConfig, *, info: SourceInfo | None = None) -> None:
        """Make or join the rings and say what the source is.

        Args:
            name: of the stream.
            geometry: of the sensor; larger frames are refused.
            ring: depth and packet size.
            info: what readers shall learn of the source; None = only its name and geometry.

        Raises:
            RingError: another producer writes this name, or shared memory cannot be used.
        """
        self._geometry = geometry
        self._info = info or SourceInfo(name, geometry)
        self._max_events = events_per_packet(ring)
        self._ledger = Ledger(now_ns(), self._max_events)
        self._writes = False
        super().__init__(name, ring)

    @property
    def life(self) -> int:
        """Host monotonic ns at which this writer began."""
        return self._ledger.life

    @property
    def serial(self) -> int:
        """Packets sent so far, over both rings."""
        return self._ledger.serial

    @property
    def events_sent(self) -> int:
        """Events sent so far."""
        return self._ledger.events

    @property
    def frames_sent(self) -> int:
        """Frames sent so far."""
        return self._ledger.frames

    def send(self, packet: Packet) -> None:
        """Hand a packet to all readers; events beyond the largest packet are split.

        Raises:
            RingError: a frame larger than the geometry says, or no memory.
        """
        if isinstance(packet, Frame):
            self._check(packet)
        for header, piece in self._ledger.enter(packet, now_ns()):
            self._put(header, piece)
        self._carrier.notify()

    def finish(self) -> None:
        """Tell the readers that the source has ended."""
        self._put(*self._ledger.end(now_ns()))
        self._carrier.notify()

    def _check(self, frame: Frame) -> None:
        if frame.pixels.ndim != 3 or frame.pixels.dtype != np.uint8:
            raise RingError(f"a frame is uint8 [H, W, C], got {frame.pixels.dtype} {frame.pixels.shape}")
        size = self._geometry
        if frame.pixels.size > size.height * size.width * size.channels:
            raise RingError(
                f"a frame of {frame.pixels.shape} does not fit the ring made for {size.height} x {size.width} x "
                f"{size.channels}; the driver's geometry must be that of its frames"
            )

    def _put(self, header: Header, packet: Packet | None) -> None:
        if header.kind == Kind.CLOCK:
            data = np.empty(packets.HEADER_BYTES + header.body, np.uint8)
            packets.write(data, header, packet)
            self._space.write_clock(data.tobytes())
        self._carrier.put("frames" if header.kind == Kind.FRAME else "events", header, packet)

    def _open(self, carrier: Carrier) -> None:
        carrier.write_to(
            {
                "events": packets.event_packet_bytes(self._max_events),
                "frames": packets.frame_packet_bytes(self._geometry),
            }
        )
        self._writes = True
        self._space.write_hello(packets.pack_info(self._info, self._ledger.life))
        carrier.notify()

    def _drop(self) -> None:
        if self._writes:
            self._space.remove_hello()
        self._writes = False
        super()._drop()


class RingReader(_Member):
    """A reader's end: packets in the producer's order, holes and restarts as `Gap`s.

    It outlives its producer: when a new one comes under the same name, reading goes on.

    Attributes:
        info: what is known of the source; follows a new producer.
        continuity: lost packets, end of stream.
    """

    def __init__(
        self,
        name: str,
        ring: RingConfig,
        *,
        wait_s: float = 10.0,
        resume: Mark | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Join the rings and wait until their producer says what it is.

        Args:
            name: of the stream.
            ring: as the producer's.
            wait_s: how long to wait for the producer.
            resume: where a killed predecessor was, so that what was missed since is marked and counted.
            meanwhile: called every 20 ms while waiting; may raise to end it.

        Raises:
            RingError: no producer within `wait_s`, too many readers, or other settings.
        """
        self.continuity = Continuity(resume)
        self._info: SourceInfo | None = None
        self._info_life = 0
        super().__init__(name, ring)
        try:
            self._await_hello(wait_s, meanwhile or (lambda: None))
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> SourceInfo:
        """What is known of the source."""
        if self._info is None:
            raise RingError(f"no producer has written the rings {self.name!r} yet")
        return self._info

    @property
    def geometry(self) -> Geometry:
        """Of the sensor."""
        return self.info.geometry

    @property
    def lost_packets(self) -> int:
        """Packets that were overwritten before they were read."""
        return self.continuity.lost_packets

    @property
    def ended(self) -> bool:
        """The producer said that its source has ended, and everything before was read."""
        return self.continuity.ended

    def read(self, timeout_s: float) -> list[Packet]:
        """Take everything that is there.

        Args:
            timeout_s: how long to wait when nothing is there; 0 = not at all.

        Returns:
            Packets in the order in which the producer sent them; empty after the time-out
            or when the source has ended.
        """
        deadline = time.monotonic() + timeout_s
        had_ended = self.ended
        while True:
            result = self._drain()
            left_s = deadline - time.monotonic()
            if result or self.ended > had_ended or left_s <= 0:
                return result
            if not self.continuity.holds_back:
                self._carrier.wait(left_s)

    def _drain(self) -> list[Packet]:
        take = self._carrier.take
        first = list(take("events"))
        frames = list(take("frames"))
        again = list(take("events")) if frames else []
        result = self.continuity.accept(first, frames, again)
        if self.continuity.position[0] > self._info_life:
            self._read_hello()
        return result

    def _read_hello(self) -> bool:
        hello = self._space.read_hello()
        if hello is None:
            return False
        self._info, self._info_life = packets.unpack_info(hello)
        return True

    def _await_hello(self, wait_s: float, meanwhile: Callable[[], None]) -> None:
        deadline = time.monotonic() + wait_s
        while not self._read_hello():
            meanwhile()
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise RingError(
                    f"no producer writes the rings {self.name!r} (waited {wait_s:g} s). Start the stream first, or "
                    "check source.name and publish.bind: they make the name"
                )
            self._carrier.wait(min(left_s, _HELLO_POLL_S))

    def _open(self, carrier: Carrier) -> None:
        carrier.read_from(Blocks())


def _sweep(space: RingSpace, *, keep_place: bool = False) -> bool:
    """Remove what dead members left, and the place when nobody lives there; tell whether nobody does."""
    alive = bool(space.carrier) and bool(carriers.carrier(space.carrier).sweep(space))
    if not alive and not keep_place:
        space.remove()
    return not alive
