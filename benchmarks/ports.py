"""Addresses nobody uses, for benchmarks that run beside whatever else runs."""

from __future__ import annotations

import socket


def free_address() -> str:
    """A loopback TCP address with a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"
