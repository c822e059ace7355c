"""Publish exposed frames, captured frames, event images and the status on one XPUB socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import zmq

from nire.types import ExposedFrame, Frame
from nire.wall_time import WallTime
from stream.clock import now_ns
from stream.config_sections import PublishConfig, SecurityConfig
from stream.sockets import wire
from stream.sockets.endpoint import Endpoint
from stream.sockets.event_image import EventImage

# A subscription is a topic; whatever is longer is no subscriber of ours.
_MAX_SUBSCRIPTION_BYTES = 1024
# A flood of subscriptions delays frames by so many, and beyond so many everything counts as wanted.
_HEARD_AT_ONCE = 256
_SUBSCRIPTIONS_MOST = 1024
# At the end of a recording the last frames are still in the socket; a subscriber that is stuck must not hold us.
_LINGER_MS = 300
# Handing over a buffer costs more than copying a DAVIS frame (100 against 80 us), less than a megapixel.
_COPY_BELOW_BYTES = 1 << 18


class Publisher(Endpoint):
    """Sends messages to whoever subscribes and encodes nothing that nobody subscribes to.

    Never blocks: a subscriber that is slower than the stream loses the messages beyond
    `publish.high_water_mark`; it sees the holes in `index`.

    Attributes:
        address: what the socket is bound to, with its real port.
        life: of this process, as headers tell it.
        sent: messages handed to ZMQ so far.
    """

    def __init__(self, publish: PublishConfig, security: SecurityConfig | None = None, *, life: int = 1) -> None:
        """Bind.

        Args:
            publish, security: sections of the configuration.
            life: of this process among those that publish the stream, counted from 1.

        Raises:
            ConfigError: the address cannot be bound, or the keys cannot be used.
        """
        super().__init__(linger_ms=_LINGER_MS)
        self.life = life
        self.sent = 0
        self._subscriptions: set[bytes] = set()
        self._high_water_mark = publish.high_water_mark
        self.address = self.serve(zmq.XPUB, "publish.bind", publish.bind, security)

    def prepare(self, socket: zmq.Socket[bytes]) -> None:
        """Set what a publishing socket needs before it is bound."""
        socket.sndhwm = self._high_water_mark
        socket.copy_threshold = _COPY_BELOW_BYTES
        socket.maxmsgsize = _MAX_SUBSCRIPTION_BYTES

    def wants(self, topic_prefix: str) -> bool:
        """Tell whether somebody subscribes to a topic that begins with `topic_prefix`, or is it."""
        self._hear()
        topic = topic_prefix.encode()
        exact = topic + b"\0"
        if len(self._subscriptions) > _SUBSCRIPTIONS_MOST:
            return True
        return any(exact.startswith(wanted) or wanted.startswith(topic) for wanted in self._subscriptions)

    def send_frame(self, frame: ExposedFrame, *, camera: str = "") -> ExposedFrame:
        """Publish an exposed frame under `frame/<tag>`; of one camera among several under `<camera>/frame/<tag>`.

        Returns:
            The frame with `life` and `stamps.published_ns` filled, whether somebody subscribed or not.
        """
        frame = replace(frame, life=self.life, stamps=replace(frame.stamps, published_ns=now_ns()))
        if self.wants(wire.camera_topic(camera, wire.frame_topic(frame.tag))):
            self._send(wire.pack_frame(frame, camera=camera))
        return frame

    def send_captured(self, frame: Frame, wall: WallTime | None = None, *, camera: str = "") -> None:
        """Publish a captured frame under `captured`, with the wall time of its middle."""
        if self.wants(wire.camera_topic(camera, wire.CAPTURED_TOPIC)):
            self._send(wire.pack_captured(frame, now_ns(), wall, life=self.life, camera=camera))

    def send_events(self, image: EventImage, wall: WallTime | None = None, *, camera: str = "") -> None:
        """Publish an image of events under `events`, with the wall time of its middle."""
        if self.wants(wire.camera_topic(camera, wire.EVENTS_TOPIC)):
            self._send(wire.pack_events(image, now_ns(), wall, life=self.life, camera=camera))

    def send_status(self, status: Mapping[str, Any], *, camera: str = "") -> None:
        """Publish a map of plain values (numpy scalars included) under `status`."""
        if self.wants(wire.camera_topic(camera, wire.STATUS_TOPIC)):
            self._send(wire.pack_status(status, camera=camera))

    def _send(self, message: bytes) -> None:
        # XPUB drops for a slow subscriber and never waits; large buffers are handed over, not copied.
        self.served.send(message, flags=zmq.NOBLOCK, copy=False)
        self.sent += 1

    def _hear(self) -> None:
        if self.renew():
            self._subscriptions.clear()  # whoever may come back subscribes again
        for _ in range(_HEARD_AT_ONCE):
            if not int(self.served.get(zmq.EVENTS)) & zmq.POLLIN:  # ten times cheaper than poll()
                return
            try:
                said = self.served.recv(zmq.NOBLOCK)
            except zmq.ZMQError:
                return
            if said[:1] == b"\1":
                self._subscriptions.add(said[1:])
            elif said[:1] == b"\0":
                self._subscriptions.discard(said[1:])
