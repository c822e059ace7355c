"""Orders and wishes between the supervisor and a process: small, taken whole or not at all, and never waited for."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any

import msgpack

# A message that the kernel has no room for is refused: what waits for a process that does not listen stays this small.
_ROOM_BYTES = 1 << 17
_LONGEST_BYTES = 1 << 15


class Orders:
    """One end of a line. Neither end can be held up by the other: a message is a packet, it comes whole or not.

    Attributes:
        refused: messages that the other side left no room for, or that were too long.
    """

    def __init__(self, own: socket.socket) -> None:
        """Take over one end; use `pair`. It travels to a spawned process."""
        self._socket = own
        self.refused = 0

    @classmethod
    def pair(cls) -> tuple[Orders, Orders]:
        """Make both ends."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM_BYTES)
        return cls(ends[0]), cls(ends[1])

    def send(self, message: dict[str, Any]) -> bool:
        """Hand over a message of plain values.

        Returns:
            Whether it is on its way; not where the other side does not listen, or has gone.
        """
        try:
            data = msgpack.packb(message)
            if len(data) <= _LONGEST_BYTES:
                self._socket.send(data)
                return True
        except (OSError, ValueError, TypeError, OverflowError):
            pass
        self.refused += 1
        return False

    def receive(self, timeout_s: float = 0.0) -> dict[str, Any] | None:
        """Take the next message; None where none comes in time.

        Raises:
            EOFError: the other side has gone.
        """
        if timeout_s > 0:
            select.select([self._socket], [], [], timeout_s)
        try:
            data = self._socket.recv(_LONGEST_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        message: dict[str, Any] = msgpack.unpackb(data)
        return message

    def fileno(self) -> int:
        """For `multiprocessing.connection.wait`."""
        return self._socket.fileno()

    def close(self) -> None:
        """Let go; safe to call twice."""
        with contextlib.suppress(OSError):
            self._socket.close()
