"""One log stream for all processes: children write lines to a pipe, the supervisor prints them under their names."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import TextIO, cast

_KEPT_LINES = 20
_LONGEST_LINE = 1 << 16


def configure(level: str = "INFO", *, plain: bool = False) -> None:
    """Log to stderr from now on.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        plain: without the time, for children: the supervisor's side adds it.
    """
    text = "%(levelname)s %(name)s: %(message)s" if plain else "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=text, datefmt="%H:%M:%S", stream=sys.stderr, force=True)


class Unblocked(io.TextIOBase):
    """Text to a terminal, file or pipe that may not be read: what there is no room for is left out, and counted."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, file: int) -> None:
        """Write to a file descriptor; it stays open."""
        super().__init__()
        self._file = file
        self._left_out = 0
        self._one_at_a_time = threading.RLock()  # the room that one thread has seen must not be taken by another

    def write(self, text: str) -> int:
        """Write as much as goes at once; never waits."""
        with self._one_at_a_time:
            self._write(text)
        return len(text)

    def _write(self, text: str) -> None:
        data = text.encode(errors=self.errors)
        if self._left_out and self._has_room():
            data = f"({self._left_out} bytes before this were left out: nobody read them)\n".encode() + data
            self._left_out = 0
        # A pipe that is ready takes at least so much without waiting.
        for start in range(0, len(data), select.PIPE_BUF):
            piece = data[start : start + select.PIPE_BUF]
            if not self._has_room():
                self._left_out += len(data) - start
                break
            try:
                os.write(self._file, piece)
            except OSError:  # its reader has gone, or the disk is full: nothing is left to say it to
                self._left_out += len(data) - start
                break

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The file descriptor."""
        return self._file

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._file)

    def _has_room(self) -> bool:
        try:
            return bool(select.select([], [self._file], [], 0)[1])
        except (OSError, ValueError):
            return False


@contextlib.contextmanager
def unblocked() -> Iterator[TextIO]:
    """Let nothing that is logged or printed to stderr wait for its reader, until the block ends; gives the stream."""
    before = sys.stderr
    try:
        file = before.fileno()
    except (OSError, ValueError, AttributeError):  # a stream in memory, which never waits
        yield before
        return
    before.flush()
    handlers = [it for it in logging.getLogger().handlers if getattr(it, "stream", None) is before]
    sys.stderr = out = cast(TextIO, Unblocked(file))
    for handler in handlers:
        handler.stream = out  # type: ignore[attr-defined]
    try:
        yield out
    finally:
        sys.stderr = before
        for handler in handlers:
            handler.stream = before  # type: ignore[attr-defined]


class ChildLines:
    """Cuts what a child writes into lines, prints them under its name, and keeps the last ones."""

    def __init__(self, name: str, out: TextIO) -> None:
        """Print to `out`."""
        self._name = name
        self._out = out
        self._rest = b""
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)

    @property
    def last(self) -> list[str]:
        """The newest lines, oldest first."""
        return list(self._last)

    def read_from(self, pipe: int) -> bool:
        """Take what waits in a pipe; False at its end."""
        data = os.read(pipe, _LONGEST_LINE)
        self._take(data)
        return bool(data)

    def finish(self) -> None:
        """Print an unfinished last line."""
        if self._rest:
            self._take(b"\n")

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            self._last.append(text)
            self._out.write(f"[{self._name}] {text}\n")  # in one piece, where not all has room
            self._out.flush()
