"""Other ports for the sockets of a stream, where the usual ones are taken."""

from __future__ import annotations

import socket

from stream.config import Config


def free_ports() -> list[str]:
    """Make overrides for the sockets whose usual port somebody else has: a demonstration should just run."""
    usual = Config()
    found = []
    for key, address in (("publish.bind", usual.publish.bind), ("control.bind", usual.control.bind)):
        port = int(address.rpartition(":")[2])
        if not _is_free(port):
            found.append(f'{key}="tcp://127.0.0.1:{_any_free_port()}"')
    if not _is_free(int(usual.preview.bind.rpartition(":")[2])):
        found.append(f'preview.bind="127.0.0.1:{_any_free_port()}"')
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
