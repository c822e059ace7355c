"""Subscribe to a running stream, either to the newest message only or to every one.

The two ways, and the traps that this file exists to avoid:

- *Newest only* is ZMQ's CONFLATE on the SUB socket, with **one socket per topic**: a conflating socket keeps one
  message over all of its topics, so a reader of two topics on one socket may never see one of them.
- *Every frame* is a SUB socket without CONFLATE; a reader that is too slow still loses messages, beyond the high
  water marks of both sides: watch `index` for holes.
- A small high water mark is no replacement for CONFLATE: it drops the newest messages, not the oldest.
- CONFLATE never goes on the publishing side, and never with multi-part messages (a message here has one part).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import zmq

from nire.errors import ConfigError
from stream.sockets import wire
from stream.sockets.endpoint import Endpoint
from stream.sockets.keys import ClientKeys

_RECONNECT_MS = 50


class Subscriber(Endpoint):
    """Receives and decodes messages of some topics; not for use by several threads at once."""

    def __init__(
        self,
        address: str,
        topics: Sequence[str],
        *,
        newest_only: bool = False,
        keys: ClientKeys | None = None,
        high_water_mark: int = 256,
        camera: str = "",
    ) -> None:
        """Connect; the publisher may come later, or go and come back.

        Args:
            address: of the publishing socket, for example tcp://127.0.0.1:5556.
            topics: `status`, `captured`, `events`, `frame/<tag>`; one that ends in `/` stands for all that begin
                with it (`frame/`), the empty one for everything.
            newest_only: keep only the newest message of each topic; a topic that ends in `/` counts as one.
            keys: where the stream has keys.
            high_water_mark: messages kept while the reader is busy, without `newest_only`.
            camera: whose topics are meant, of several: what is published under `left/status` comes as `status`.

        Raises:
            ConfigError: it is no ZMQ address, no topic is given, or everything is asked for newest only.
        """
        if isinstance(topics, str) or not topics:
            raise ConfigError(f"topics = {topics!r}, expected a list such as ['frame/upsample', 'status']")
        if newest_only and "" in topics:
            raise ConfigError("newest_only needs named topics: over all topics one message would push out the others")
        super().__init__()
        self.address = address
        self._prefix = wire.camera_topic(camera, "")
        self._poller = zmq.Poller()
        try:
            for group in [[topic] for topic in topics] if newest_only else [list(topics)]:
                self._connect(group, newest_only, keys, high_water_mark)
        except zmq.ZMQError as error:
            raise ConfigError(f"{address!r} is no ZMQ address, expected for example tcp://127.0.0.1:5556") from error

    def recv(self, timeout_ms: int | None = None) -> wire.Message | None:
        """Wait for the next message of any topic.

        Args:
            timeout_ms: None = for ever, 0 = not at all.

        Returns:
            The message; its pixels are read-only. None after the timeout.

        Raises:
            WireError: a damaged or foreign message.
        """
        ready = dict(self._poller.poll(timeout_ms))
        for socket in self._sockets:
            if socket in ready:
                # The one that was served goes last, so that a busy topic cannot starve a quiet one.
                self._sockets.remove(socket)
                self._sockets.append(socket)
                message = wire.unpack(socket.recv())
                return replace(message, topic=message.topic.removeprefix(self._prefix))
        return None

    def __iter__(self) -> Iterator[wire.Message]:
        """Yield messages for ever."""
        while True:
            message = self.recv()
            if message is not None:
                yield message

    def _connect(
        self,
        topics: list[str],
        newest_only: bool,
        keys: ClientKeys | None,
        high_water_mark: int,
    ) -> None:
        socket = self.socket(zmq.SUB)
        # A short recording is over in less than a second: who waits for it must not pause long between two tries.
        socket.reconnect_ivl = _RECONNECT_MS
        socket.reconnect_ivl_max = 0
        if newest_only:
            socket.conflate = True
        else:
            socket.rcvhwm = high_water_mark
        for topic in topics:
            socket.subscribe(subscription(self._prefix + topic))
        self.connect(socket, self.address, keys)
        self._poller.register(socket, zmq.POLLIN)


def subscription(topic: str) -> bytes:
    """What to hand to ZMQ for a topic: with its closing zero byte, or `frame/a` would also match `frame/ab`."""
    return topic.encode() if topic == "" or topic.endswith("/") else topic.encode() + b"\0"
