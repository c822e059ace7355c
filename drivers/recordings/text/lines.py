"""Lines of numbers, `t x y p`, read in large pieces: one event a line, by the compiled loop of `loops.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch

_PIECE_BYTES = 1 << 22
_LONGEST_US = 2.0**62  # a time beyond it is damage, and must still fit into 64 bits
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ROW = re.compile(rf"^\s*{_NUMBER}(?:[\s,;]+{_NUMBER}){{3}}[\s,;]*$")
_SIZE = re.compile(r"^\s*(\d{1,5})[\s,;]+(\d{1,5})\s*$")
_NAMES = {"timestamp": "t", "time": "t", "ts": "t", "t": "t", "x": "x", "y": "y", "polarity": "p", "pol": "p", "p": "p"}


@dataclass(frozen=True, slots=True)
class LineFormat:
    """How the lines are to be read.

    Attributes:
        skip: bytes before the first event.
        columns: order of the columns, a word of the letters t, x, y, p.
        unit: of the times: s, ms, us or ns.
        size: width and height, where a first line says them.
    """

    skip: int
    columns: str
    unit: str
    size: tuple[int, int] | None

    @classmethod
    def of(cls, head: bytes, columns: str = "", unit: str = "auto") -> LineFormat:
        """Tell from the first bytes.

        Args:
            head: with at least one whole line of an event.
            columns: "" = as a line of names says, else t x y p.
            unit: "auto" = seconds where times have a point, else microseconds.

        Raises:
            ValueError: it holds no line of four numbers.
        """
        at, size, named = 0, None, ""
        for line in head.splitlines(keepends=True):
            text = line.decode("ascii", "replace")
            if _ROW.match(text):
                order = columns or named or "txyp"
                time = re.split(r"[\s,;]+", text.strip())[order.index("t")]
                unit = unit if unit != "auto" else ("s" if re.search(r"[.eE]", time) else "us")
                return cls(at, order, unit, size)
            if found := _SIZE.match(text):
                size = (int(found[1]), int(found[2]))
            letters = [_NAMES.get(word, "?") for word in re.findall(r"\w+", text.lower())]
            if sorted(letters) == ["p", "t", "x", "y"]:
                named = "".join(letters)
            elif not found and text.strip() and not text.lstrip().startswith(("#", "%", "//")):
                break
            at += len(line)
        raise ValueError("the first line that is no comment is not four numbers")


class BadLine(ValueError):
    """A line is no event. `position`: its first byte, after what was skipped."""

    def __init__(self, position: int, line: bytes) -> None:
        """Keep the place."""
        super().__init__(f"the line at byte {position} is no event: {line[:60]!r}")
        self.position = position


def read_events(file: IO[bytes], lines: LineFormat) -> Iterator[EventBatch]:
    """Read events from a file that stands at its first byte, some 150,000 at a time.

    Raises:
        BadLine: after all events before it.
    """
    file.read(lines.skip)
    position, rest = lines.skip, b""
    while True:
        data = file.read(_PIECE_BYTES)
        whole = rest + data
        cut = whole.rfind(b"\n", len(rest)) + 1 if data else len(whole)
        piece, rest = whole[:cut], whole[cut:]
        if piece:
            columns, good = _columns(piece)
            if columns.size:
                yield _batch(columns, lines)
            if good < len(piece):
                raise BadLine(position + good, piece[good:].partition(b"\n")[0])
        position += len(piece)
        if not data:
            return
        if len(rest) > _PIECE_BYTES:
            raise BadLine(position, rest)


def _columns(piece: bytes) -> tuple[NDArray[np.float64], int]:
    """The four numbers of each line, float64 [4, N], and how many bytes of the piece are good."""
    from drivers.recordings.text.loops import (
        read_lines,  # brings the compiler with it, which a list of drivers shall not wait for
    )

    data = np.frombuffer(piece if piece.endswith(b"\n") else piece + b"\n", np.uint8)
    ends = int(np.count_nonzero((data == ord("\n")) | (data == ord("\r"))))
    numbers = np.empty((4, ends))
    places, spill = np.empty(numbers.size, np.int64), np.empty_like(data)
    good, count, hard, spilt, is_bad = read_lines(data, 0, numbers, places, spill)
    if hard:
        numbers.ravel()[places[:hard]] = np.fromstring(spill[:spilt].tobytes().decode("ascii"), np.float64, sep=" ")
    return numbers[:, :count], int(good) if is_bad else len(piece)


def _batch(columns: NDArray[np.float64], lines: LineFormat) -> EventBatch:
    t, x, y, p = (columns[lines.columns.index(name)] for name in "txyp")
    t_us = np.rint(np.clip(t * (_SECONDS[lines.unit] * 1e6), -_LONGEST_US, _LONGEST_US)).astype(np.int64)
    return EventBatch(t_us, _coordinate(x), _coordinate(y), (p > 0).astype(np.uint8), int(t_us.max()))


def _coordinate(column: NDArray[np.float64]) -> NDArray[np.uint16]:
    """What does not fit a coordinate becomes one beyond any sensor: cleaning drops and counts it."""
    return np.where((column < 0) | (column > 65535), 65535, column).astype(np.uint16)
