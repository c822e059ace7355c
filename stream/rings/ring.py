"""The rings: packets from one producer to any number of readers, in shared memory, by iceoryx2 (known only here).

A stream has a place of its own (`stream.rings.place`) with two rings, `events` (event batches, gaps, end of stream) and
`frames`, an event service that wakes readers for both, and a file that says what is known of the source. The oldest
packet gives way when a reader is slower than the ring is deep.

Readers get copies: 13 bytes an event cost little (over 1 G events/s), and a slow reader never holds memory of the
ring. Nothing here blocks a writer, and a killed writer or reader blocks nobody.
"""

from __future__ import annotations

import ctypes
import logging
import math
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import iceoryx2 as iox2
import numpy as np

from drivers.source import SourceInfo
from nire.errors import RingError
from nire.types import Frame, Geometry, Packet, WallClock
from stream.clock import now_ns
from stream.config_sections import RingConfig
from stream.rings import packets, place
from stream.rings.numbering import Ledger
from stream.rings.packets import Header, Kind
from stream.rings.place import RingSpace
from stream.rings.reordering import Continuity, Mark, Parcel

MAX_READERS = 6
"""Readers that one stream can have at a time (consumer, recorder, and others that attach by name)."""
MAX_FRAME_HZ = 120
"""Frames a second that the frame ring's depth is made for; faster cameras get fewer seconds."""
_RINGS = ("events", "frames")
_BORROWED = 2
"""Packets that a port may hold outside of its queue, by iceoryx2."""
_HELLO_POLL_S = 0.02
_log = logging.getLogger(__name__)


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


def event_file_bytes(ring: RingConfig) -> int:
    """Size of the event ring's file: room for readers that share no packet. It is never full."""
    return _places(event_depth(ring)) * packets.event_packet_bytes(events_per_packet(ring))


def require_room(ring: RingConfig, geometry: Geometry | None = None) -> None:
    """Check that the rings have their place, before they are made.

    Args:
        ring: depth and packet size.
        geometry: of the sensor; None where it is not known yet: then of the event ring only.

    Raises:
        RingError: a folder cannot be written, or shared memory has less room than full rings take.
    """
    place.require_writable()
    if geometry is None:
        place.require_memory(event_memory_bytes(ring), "the event ring takes")
    else:
        frames = frame_depth(ring) * packets.frame_packet_bytes(geometry)
        place.require_memory(event_memory_bytes(ring) + frames, "the rings take")


def sweep(name: str) -> bool:
    """Remove what dead processes left of a stream, and everything when none is alive.

    Returns:
        True when nothing of the stream is left.
    """
    space = RingSpace.of(name)
    with space.locked():
        return _sweep(space)


def clock_of(name: str) -> WallClock | None:
    """How a running stream's device time maps to wall time; None where there is no such stream, or it does not know."""
    data = RingSpace.of(name).read_clock()
    packet = packets.read(np.frombuffer(data, np.uint8))[1] if data else None
    return packet if isinstance(packet, WallClock) else None


class _Member:
    """One process's part in a stream: its node, its services, and leaving without a trace."""

    def __init__(self, name: str, ring: RingConfig) -> None:
        iox2.set_log_level(iox2.LogLevel.Fatal)
        self.name = name
        self._space = RingSpace.of(name)
        self._node: Any = None
        with self._space.locked():
            _sweep(self._space, keep_place=True)
            try:
                self._join(ring)
            except BaseException:
                self._drop()
                _sweep(self._space)
                raise

    def close(self) -> None:
        """Leave; the last one takes everything away. Safe to call twice."""
        if self._node is None:
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

    def _join(self, ring: RingConfig) -> None:
        self._node = (
            iox2.NodeBuilder.new()
            .config(_config(self._space))
            .signal_handling_mode(iox2.SignalHandlingMode.Disabled)
            .create(iox2.ServiceType.Ipc)
        )
        self._space.close_to_others()  # iceoryx2 lets everybody write what its nodes share
        depths = {"events": event_depth(ring), "frames": frame_depth(ring)}
        try:
            self._services = {which: self._service(which, depth) for which, depth in depths.items()}
            self._wake = (
                self._node.service_builder(iox2.ServiceName.new("wake"))
                .event()
                .max_listeners(MAX_READERS)
                .max_notifiers(2)
                .max_nodes(MAX_READERS + 2)
                .open_or_create()
            )
            self._open_ports()
        except RingError:
            raise
        except Exception as error:  # iceoryx2 has an exception type per call, with one root: Exception
            raise self._explained(error) from error

    def _service(self, which: str, depth: int) -> Any:
        builder = self._node.service_builder(iox2.ServiceName.new(which)).publish_subscribe(iox2.Slice[ctypes.c_uint8])
        return (
            # No alignment beyond that of the chunks, 8: iceoryx2 would give each single byte so much room.
            builder.max_publishers(1)
            .max_subscribers(MAX_READERS)
            .max_nodes(MAX_READERS + 2)
            .enable_safe_overflow(True)
            .subscriber_max_buffer_size(depth)
            .subscriber_max_borrowed_samples(_BORROWED)
            .history_size(0)
            .open_or_create()
        )

    def _open_ports(self) -> None:
        raise NotImplementedError

    def _drop_ports(self) -> None:
        raise NotImplementedError

    def _drop(self) -> None:
        # iceoryx2 frees a thing when the last Python reference goes: ports before services before the node.
        self._drop_ports()
        self._services = {}
        self._wake = None
        self._node = None

    def _explained(self, error: Exception) -> RingError:
        what = str(error) or type(error).__name__
        if "ExceedsMaxSupported" in what:
            return RingError(
                f"the rings {self.name!r} have no free place ({what}): one producer and {MAX_READERS} readers are the "
                "most. Stop the other one, or give this stream another source.name"
            )
        if "DoesNotSupport" in what or "Incompatible" in what:
            return RingError(
                f"the rings {self.name!r} exist with other settings ({what}). Processes of one stream need the same "
                "[ring] section; stop the running ones, or choose another source.name"
            )
        return RingError(f"cannot make or join the rings {self.name!r}: {type(error).__name__}: {what}")


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
        self._ports: dict[str, Any] = {}
        self._notifier: Any = None
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
        self._notifier.notify()

    def finish(self) -> None:
        """Tell the readers that the source has ended."""
        self._put(*self._ledger.end(now_ns()))
        self._notifier.notify()

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
        which = "frames" if header.kind == Kind.FRAME else "events"
        size = packets.HEADER_BYTES + header.body
        try:
            sample = self._ports[which].loan_slice_uninit(size)
        except iox2.LoanError as error:
            raise RingError(f"the ring {self.name!r}/{which} lends no {size} bytes: {error}") from error
        data = np.frombuffer(sample.payload().as_memory_view(), np.uint8)
        packets.write(data, header, packet)
        if header.kind == Kind.CLOCK:
            self._space.write_clock(data.tobytes())
        sample.assume_init().send()

    def _open_ports(self) -> None:
        largest = {
            "events": packets.event_packet_bytes(self._max_events),
            "frames": packets.frame_packet_bytes(self._geometry),
        }
        for which, size in largest.items():
            builder = self._services[which].publisher_builder().initial_max_slice_len(size)
            self._ports[which] = builder.allocation_strategy(iox2.AllocationStrategy.Static).create()
        self._notifier = self._wake.notifier_builder().create()
        self._space.write_hello(packets.pack_info(self._info, self._ledger.life))
        self._notifier.notify()

    def _drop_ports(self) -> None:
        if self._ports:
            self._space.remove_hello()
        self._ports = {}
        self._notifier = None

    def _explained(self, error: Exception) -> RingError:
        if "ExceedsMaxSupportedPublishers" in str(error):
            return RingError(
                f"another producer already writes the rings {self.name!r}. Stop it, or give this stream a source.name "
                "of its own"
            )
        return super()._explained(error)


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
        self._ports: dict[str, Any] = {}
        self._listener: Any = None
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
                self._wait(left_s)

    def _drain(self) -> list[Packet]:
        first = list(self._parcels("events"))
        frames = list(self._parcels("frames"))
        again = list(self._parcels("events")) if frames else []
        result = self.continuity.accept(first, frames, again)
        if self.continuity.position[0] > self._info_life:
            self._read_hello()
        return result

    def _parcels(self, which: str) -> Iterator[Parcel]:
        port = self._ports[which]
        while (sample := port.receive()) is not None:
            try:
                yield packets.read(np.frombuffer(sample.payload().as_memory_view(), np.uint8))
            finally:
                sample.delete()

    def _wait(self, seconds: float) -> None:
        # Wake-ups that came while nobody waited are still there: they end the wait at once, never too late.
        self._listener.timed_wait(iox2.Duration.from_micros(max(1, int(seconds * 1e6))))

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
            self._wait(min(left_s, _HELLO_POLL_S))

    def _open_ports(self) -> None:
        # The listener first: a packet that comes in between is then not slept over.
        self._listener = self._wake.listener_builder().create()
        for which in _RINGS:
            self._ports[which] = self._services[which].subscriber_builder().create()

    def _drop_ports(self) -> None:
        self._ports = {}
        self._listener = None


def _places(depth: int) -> int:
    return MAX_READERS * (depth + _BORROWED) + _BORROWED


def _config(space: RingSpace) -> Any:
    config = iox2.config.default()
    config.global_cfg.prefix = iox2.FileName.new(space.prefix)
    config.global_cfg.root_path = iox2.Path.new(str(space.root))
    return config


def _sweep(space: RingSpace, *, keep_place: bool = False) -> bool:
    config = _config(space)
    alive = False
    for node in iox2.Node.list(iox2.ServiceType.Ipc, config):
        if isinstance(node, iox2.NodeState.Dead):
            try:
                node[0].try_remove_stale_resources()
            except iox2.NodeCleanupFailure as error:
                _log.warning("cannot clean up after a dead process of the stream at %s: %s", space.root, error)
        else:
            alive = True
    if not alive and not keep_place:
        space.remove()
    return not alive
