"""One ZMQ context and its sockets, opened one by one and closed together: what publisher, server and clients share."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import zmq

from nire.errors import ConfigError
from stream.config_sections import SecurityConfig
from stream.sockets.binding import bind
from stream.sockets.keys import ClientKeys, Gate

_FREED_S = 5.0
_LOOK_S = 0.005


class Endpoint:
    """Owns sockets; what a stream binds and what its clients connect are made of one.

    Attributes:
        served: the socket that `serve` has bound; another one after `renew`.
    """

    served: zmq.Socket[bytes]

    def __init__(self, *, linger_ms: int = 0) -> None:
        """Open nothing yet.

        Args:
            linger_ms: how long messages that are on their way may take to leave when the endpoint closes.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []
        self._gate: Gate | None = None
        self._linger_ms = linger_ms

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return bool(self._context.closed)

    def socket(self, kind: int) -> zmq.Socket[bytes]:
        """Make a socket that is closed with the endpoint."""
        socket = self._context.socket(kind)
        socket.linger = 0
        self._sockets.append(socket)
        return socket

    def serve(self, kind: int, key: str, address: str, security: SecurityConfig | None) -> str:
        """Bind a socket, `served`, behind the keys of the configuration; close all where it fails.

        Args:
            kind: of socket; `prepare` sets its options.
            key: the config key that the address comes from, for the message ("publish.bind").
            address: as in the config; a port of 0 or * takes any free one.
            security: whose keys pass; None = no keys.

        Returns:
            The address that was taken, with its real port.

        Raises:
            ConfigError: the address cannot be bound, or the keys cannot be used.
        """
        try:
            self._gate = Gate(self._context, security or SecurityConfig())
            self._serve(kind, key, address)
        except BaseException:
            self.close()
            raise
        return self._bound

    def prepare(self, socket: zmq.Socket[bytes]) -> None:
        """Set the options of a socket that is about to be bound."""

    def renew(self) -> bool:
        """End all connections where a key that has come in is not on the list any more; the others come back.

        libzmq asks for a key once, when a connection begins, and cannot end a single one.

        Returns:
            Whether it did: what was known of the connections is past.
        """
        if self._gate is None or not self._gate.revoked():
            return False
        self._sockets.remove(self.served)
        self.served.close(linger=0)
        end_s = time.monotonic() + _FREED_S
        while True:
            try:
                self._serve(self._kind, self._key, self._bound)
                return True
            except ConfigError:  # the old socket is closed in the background
                if time.monotonic() > end_s:
                    raise
                time.sleep(_LOOK_S)

    def _serve(self, kind: int, key: str, address: str) -> None:
        socket = self.socket(kind)
        try:
            self.prepare(socket)
            if self._gate is not None:
                self._gate.apply(socket)
            self._kind, self._key, self._bound = kind, key, bind(socket, key, address)
        except BaseException:
            self._sockets.remove(socket)
            socket.close(linger=0)
            raise
        self.served = socket

    def connect(self, socket: zmq.Socket[bytes], address: str, keys: ClientKeys | None) -> None:
        """Connect a socket, with keys where the stream has them; close all where it fails.

        Raises:
            ZMQError: it is no ZMQ address.
        """
        socket.ipv6 = "[" in address
        try:
            if keys is not None:
                keys.apply(socket)
            socket.connect(address)
        except BaseException:
            self.close()
            raise

    def watch(self, socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
        """Make a socket that can be read once another one, not connected yet, has met its peer."""
        watching = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._sockets.append(watching)
        return watching

    def close(self) -> None:
        """Close all sockets; safe to call twice."""
        if self._context.closed:
            return
        for socket in self._sockets:
            socket.close(linger=self._linger_ms)
        if self._gate is not None:
            self._gate.close()
        self._context.term()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
