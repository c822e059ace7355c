"""Bind the preview page's address, and say clearly why it cannot be bound."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from nire.errors import ConfigError


def host_and_port(bind: str) -> tuple[str, int]:
    """Split a HOST:PORT; an IPv6 host comes without its brackets.

    Raises:
        ConfigError: it is none.
    """
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"preview.bind = {bind!r} is no HOST:PORT, for example 127.0.0.1:8765")
    return host.strip("[]"), int(port)


def bound(bind: str) -> list[socket.socket]:
    """Bind a HOST:PORT, at every address that the host's name stands for.

    Args:
        bind: as in the config; port 0 takes any free one.

    Returns:
        At least one socket, bound and listening; close them.

    Raises:
        ConfigError: no HOST:PORT, in use, or not of this machine.
    """
    host, port = host_and_port(bind)
    with contextlib.ExitStack() as opened:
        try:
            sockets = _bind_all(opened, host, port)
        except OSError as error:
            raise ConfigError(
                f"cannot bind preview.bind = {bind!r}: {error.strerror}. Stop what uses it, or choose another port: "
                "preview.bind in the config, --bind for 'nire-live preview'"
            ) from error
        opened.pop_all()
    return sockets


def require_bindable(bind: str) -> None:
    """Check that the page's address can be bound.

    Raises:
        ConfigError: it cannot.
    """
    for each in bound(bind):
        each.close()


def _bind_all(opened: contextlib.ExitStack, host: str, port: int) -> list[socket.socket]:
    """Bind what this machine has of a host's addresses."""
    sockets, absent = [], OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in addresses:
        try:
            made = opened.enter_context(socket.socket(family, kind, protocol))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # the other family has its own socket
            made.bind(address)
            made.listen()  # two may bind an address: who listens first has it
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            absent = error
        else:
            sockets.append(made)
    if not sockets:
        raise absent
    return sockets
