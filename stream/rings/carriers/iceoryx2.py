"""Rings by iceoryx2 (known only here): a service for each ring, and an event service that wakes readers of both."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import iceoryx2 as iox2
import numpy as np
from numpy.typing import NDArray

from nire.errors import RingError
from nire.types import Packet
from stream.blocks import Blocks
from stream.rings import packets
from stream.rings.carriers import MAX_READERS, no_place, other_settings, second_producer
from stream.rings.packets import Header
from stream.rings.place import RingSpace
from stream.rings.reordering import Parcel

# For packets of any length: a payload's own view makes a type of each length, in a tenth of a producer's time.
_FROM_HERE = ctypes.c_uint8 * (1 << 40)
_BORROWED = 2
"""Packets that a port may hold outside of its queue."""
_log = logging.getLogger(__name__)


class Iceoryx2Rings:
    """A node, its services, and a port of each."""

    def __init__(self, name: str, space: RingSpace, depths: Mapping[str, int]) -> None:
        """Make or join the services; use `join`."""
        iox2.set_log_level(iox2.LogLevel.Fatal)
        self._name = name
        self._blocks = Blocks()
        self._ports: dict[str, Any] = {}
        self._notifier: Any = None
        self._listener: Any = None
        self._waiting: Any = None
        self._attached: Any = None
        self._node: Any = None
        self._wake: Any = None
        self._services: dict[str, Any] = {}
        self._depths = depths
        try:
            self._make(space, depths)
        except Exception as error:  # iceoryx2 has an exception type per call, with one root: Exception
            self.drop()
            raise _explained(name, error) from error

    def write_to(self, largest: Mapping[str, int]) -> None:
        """Become the stream's one producer."""
        try:
            for ring, size in largest.items():
                builder = self._services[ring].publisher_builder().initial_max_slice_len(size)
                self._ports[ring] = builder.allocation_strategy(iox2.AllocationStrategy.Static).create()
            self._notifier = self._wake.notifier_builder().create()
        except Exception as error:
            raise _explained(self._name, error) from error

    def read_from(self, blocks: Blocks) -> None:
        """Become a reader, of what is sent from here on."""
        self._blocks = blocks
        try:
            # The listener first: a packet that comes in between is then not slept over.
            self._listener = self._wake.listener_builder().create()
            builder = iox2.WaitSetBuilder.new().signal_handling_mode(iox2.SignalHandlingMode.Disabled)
            self._waiting = builder.create(iox2.ServiceType.Ipc)
            self._attached = self._waiting.attach_notification(self._listener)
            for ring, service in self._services.items():
                self._ports[ring] = service.subscriber_builder().create()
        except Exception as error:
            raise _explained(self._name, error) from error

    def put(self, ring: str, header: Header, packet: Packet | None) -> None:
        """Send a packet; the oldest one gives way."""
        size = packets.HEADER_BYTES + header.body
        try:
            sample = self._ports[ring].loan_slice_uninit(size)
        except iox2.LoanError as error:
            raise RingError(f"the ring {self._name!r}/{ring} lends no {size} bytes: {error}") from error
        packets.write(_bytes_in(sample), header, packet)
        sample.assume_init().send()

    def notify(self) -> None:
        """Wake all readers."""
        self._notifier.notify()

    def take(self, ring: str) -> Iterator[Parcel]:
        """Take what was sent and is still there.

        No more than one producer's ring keeps: what was there before is taken then. Where packets come as quickly as
        they are copied there is always one more, and taking them all would never end, nor their memory.
        """
        port = self._ports[ring]
        left, life = self._depths[ring], 0
        while left and (sample := port.receive()) is not None:
            try:
                parcel = packets.read(_bytes_in(sample), self._blocks)
            finally:
                sample.delete()
            if parcel[0].life != life:
                left, life = self._depths[ring], parcel[0].life
            left -= 1
            yield parcel

    def wait(self, seconds: float) -> None:
        """Wait for the next `notify`; one since the last wait ends it at once."""
        # By a wait set: a listener's own timed wait looks every few milliseconds only, and fails where a signal comes.
        woken, _ = self._waiting.wait_and_process_with_timeout(iox2.Duration.from_micros(max(1, int(seconds * 1e6))))
        while woken and self._listener.try_wait():
            pass

    def drop(self) -> None:
        """Leave."""
        # iceoryx2 frees a thing when the last Python reference goes: ports before services before the node.
        self._ports = {}
        self._attached = None
        self._waiting = None
        self._notifier = self._listener = None
        self._services = {}
        self._wake = None
        self._node = None

    def _make(self, space: RingSpace, depths: Mapping[str, int]) -> None:
        self._node = (
            iox2.NodeBuilder.new()
            .config(_config(space))
            .signal_handling_mode(iox2.SignalHandlingMode.Disabled)
            .create(iox2.ServiceType.Ipc)
        )
        space.close_to_others()  # iceoryx2 lets everybody write what its nodes share
        self._services = {ring: self._service(ring, depth) for ring, depth in depths.items()}
        self._wake = (
            self._node.service_builder(iox2.ServiceName.new("wake"))
            .event()
            .max_listeners(MAX_READERS)
            .max_notifiers(2)
            .max_nodes(MAX_READERS + 2)
            .open_or_create()
        )

    def _service(self, ring: str, depth: int) -> Any:
        builder = self._node.service_builder(iox2.ServiceName.new(ring)).publish_subscribe(iox2.Slice[ctypes.c_uint8])
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


def join(name: str, space: RingSpace, depths: Mapping[str, int]) -> Iceoryx2Rings:
    """Become a member of a stream's rings.

    Args:
        name: of the stream, for messages.
        space: of the stream, locked.
        depths: packets that each ring keeps for each reader.

    Raises:
        RingError: there is no place, or the rings have other settings.
    """
    return Iceoryx2Rings(name, space, depths)


def sweep(space: RingSpace) -> bool:
    """Remove what dead members left; tell whether one is alive."""
    alive = False
    for node in iox2.Node.list(iox2.ServiceType.Ipc, _config(space)):
        if isinstance(node, iox2.NodeState.Dead):
            try:
                node[0].try_remove_stale_resources()
            except iox2.NodeCleanupFailure as error:
                _log.warning("cannot clean up after a dead process of the stream at %s: %s", space.root, error)
        else:
            alive = True
    return alive


def file_bytes(depth: int, packet_bytes: int) -> int:
    """Size of a ring's file: room for readers that share no packet. It is never full."""
    return (MAX_READERS * (depth + _BORROWED) + _BORROWED) * packet_bytes


def _bytes_in(sample: Any) -> NDArray[np.uint8]:
    """Look at a sample's payload, as long as the sample is there."""
    payload = sample.payload()
    return np.frombuffer(_FROM_HERE.from_address(payload.as_ptr()), np.uint8, payload.len())


def _config(space: RingSpace) -> Any:
    config = iox2.config.default()
    config.global_cfg.prefix = iox2.FileName.new(space.prefix)
    config.global_cfg.root_path = iox2.Path.new(str(space.root))
    return config


def _explained(name: str, error: Exception) -> RingError:
    what = str(error) or type(error).__name__
    if "ExceedsMaxSupportedPublishers" in what:
        return second_producer(name)
    if "ExceedsMaxSupported" in what:
        return no_place(name, what)
    if "DoesNotSupport" in what or "Incompatible" in what:
        return other_settings(name, what)
    return RingError(f"cannot make or join the rings {name!r}: {type(error).__name__}: {what}")
