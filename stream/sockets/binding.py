"""Bind a ZMQ socket, and say clearly why it cannot be bound."""

from __future__ import annotations

import zmq

from nire.errors import ConfigError


def bind(socket: zmq.Socket[bytes], key: str, address: str) -> str:
    """Bind `socket` to `address`.

    Args:
        socket: not bound yet.
        key: the config key that the address comes from, for the message ("publish.bind").
        address: as in the config; a port of 0 or * takes any free one.

    Returns:
        The address that was taken, with its real port.

    Raises:
        ConfigError: in use, not of this machine, or no ZMQ address.
    """
    if "[" in address:
        socket.ipv6 = True
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise ConfigError(f"cannot bind {key} = {address!r}: {_reason(error, key)}") from error
    endpoint = socket.get(zmq.LAST_ENDPOINT)
    return endpoint.rstrip(b"\0").decode() if isinstance(endpoint, bytes) else str(endpoint)


def _reason(error: zmq.ZMQError, key: str) -> str:
    if error.errno == zmq.EADDRINUSE:
        return (
            "the address is in use, probably by another stream. Stop that one, or choose another port with "
            f"--set {key}=tcp://127.0.0.1:PORT"
        )
    if error.errno == zmq.EADDRNOTAVAIL:
        return "this machine has no such address. Use 127.0.0.1, or the address of one of its network interfaces"
    return f"{error.strerror}. An address looks like tcp://127.0.0.1:5556 or ipc:///run/nire.sock"
