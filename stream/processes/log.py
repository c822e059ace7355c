"""One log stream for all processes: children write lines to a pipe, the supervisor prints them under their names."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from typing import TextIO

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
            print(f"[{self._name}] {text}", file=self._out, flush=True)
