"""Lines of numbers, `t x y p`, read in large pieces: one event a line, by the compiled loop of `loops.py`."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from drivers.event_columns import BadEvent, events_of
from drivers.sense import Polarity, coordinate, order_in_words, size_in_words, unit_in_words
from nire.types import EventBatch

_PIECE_BYTES = 1 << 22
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ROW = rf"{_NUMBER}(?:[\s,;]+{_NUMBER}){{3}}[\s,;]*$"
_ROWS = re.compile(rf"^\s*{_ROW}"), re.compile(rf"^\s*\d+[\s,;]+{_ROW}")
"""By the columns before those of the event: none, or a count of lines."""
_PLAIN_SIZE = re.compile(r"^\s*(\d{1,5})[\s,;]+(\d{1,5})\s*$")
_COMMENTS = ("#", "%", "//")
_COUNT_NAMES = ("", "index", "unnamed: 0")  # as pandas writes its index


@dataclass(frozen=True, slots=True)
class Opening:
    """What stands before the first event.

    Attributes:
        skip: bytes before the first event.
        columns: their order as a comment or a line of names has it, "" = not said.
        unit: of the times, as a comment names it, "" = not said.
        size: width and height, where a line says them.
        before: columns before those of the event: 1 where a line of names begins with that of a count of lines.
    """

    skip: int
    columns: str
    unit: str
    size: tuple[int, int] | None
    before: int = 0

    @classmethod
    def of(cls, head: bytes) -> Opening:
        """Read the first bytes.

        Args:
            head: with at least one whole line of an event.

        Raises:
            ValueError: it holds no line of four numbers.
        """
        at, size, columns, unit = len(BOM_UTF8) if head.startswith(BOM_UTF8) else 0, None, "", ""
        before = 0
        for line in head[at:].splitlines(keepends=True):
            text = line.decode("ascii", "replace")
            if _ROWS[before].match(text):
                return cls(at, columns, unit, size, before)
            is_comment = text.lstrip().startswith(_COMMENTS)
            if found := _PLAIN_SIZE.match(text):
                size = (int(found[1]), int(found[2]))
            elif is_comment or _counts_lines(text) or len(re.split(r"[\s,;]+", text.strip())) == 4:
                named = order_in_words(text)
                before = before if is_comment else int(_counts_lines(text))
                columns, unit = named or columns, (unit_in_words(text) if named else "") or unit
                size = (size_in_words(text) if is_comment else None) or size
                if not named and not is_comment:
                    break
            elif text.strip():
                break
            at += len(line)
        raise ValueError("the first line that is no comment is not four numbers")


@dataclass(frozen=True, slots=True)
class LineFormat:
    """How the lines are to be read.

    Attributes:
        skip: bytes before the first event.
        columns: order of the columns, a word of the letters t, x, y, p.
        unit: of the times: s, ms, us or ns.
        polarity: what its values mean.
        before: as in `Opening`.
    """

    skip: int
    columns: str
    unit: str
    polarity: Polarity = "auto"
    before: int = 0


class BadLine(ValueError):
    """A line holds no event. `position`: its first byte in the file."""

    def __init__(self, position: int, line: bytes, why: str = "") -> None:
        """Keep the place."""
        super().__init__(f"the line at byte {position} is no event: {line[:60]!r}{'; ' * bool(why)}{why}")
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
            columns, good = columns_of(piece, lines.before)
            if columns.size:
                yield from _events(columns, lines, piece, position)
            if good < len(piece):
                raise BadLine(position + good, piece[good:].partition(b"\n")[0])
        position += len(piece)
        if not data:
            return
        if len(rest) > _PIECE_BYTES:
            raise BadLine(position, rest)


def columns_of(piece: bytes, before: int = 0) -> tuple[NDArray[np.float64], int]:
    """The four numbers of each line, `before` others left out, float64 [4, N]; and how many bytes are good."""
    from drivers.recordings.text.loops import (
        read_lines,  # brings the compiler with it, which a list of drivers shall not wait for
    )

    data = np.frombuffer(piece if piece.endswith(b"\n") else piece + b"\n", np.uint8)
    ends = int(np.count_nonzero((data == ord("\n")) | (data == ord("\r"))))
    numbers = np.empty((4, ends))
    places, spill = np.empty(numbers.size, np.int64), np.empty_like(data)
    good, count, hard, spilt, is_bad = read_lines(data, before, numbers, places, spill)
    if hard:
        numbers.ravel()[places[:hard]] = np.fromstring(spill[:spilt].tobytes().decode("ascii"), np.float64, sep=" ")
    return numbers[:, :count], int(good) if is_bad else len(piece)


def _counts_lines(text: str) -> bool:
    """Tell whether a line names the four columns of an event, after one that counts the lines."""
    first, *others = re.split(r"[,;\t]", text.rstrip("\r\n"))
    return len(others) == 4 and first.strip(' "').lower() in _COUNT_NAMES and bool(order_in_words(" ".join(others)))


def _events(columns: NDArray[np.float64], lines: LineFormat, piece: bytes, position: int) -> Iterator[EventBatch]:
    """The events of the lines of a piece, which begins at a byte of the file."""
    t, x, y, p = (columns[lines.columns.index(name)] for name in "txyp")
    try:
        yield from events_of((t, coordinate(x), coordinate(y), p), unit=lines.unit, polarity=lines.polarity)
    except BadEvent as error:
        at, line = _line_of(piece, error.index)
        raise BadLine(position + at, line, str(error)) from error


def _line_of(piece: bytes, event: int) -> tuple[int, bytes]:
    """Where the line of an event begins in a piece, and the line; empty lines hold none."""
    at = 0
    for line in piece.splitlines(keepends=True):
        if line.strip():
            if not event:
                return at, line.rstrip()
            event -= 1
        at += len(line)
    return at, b""
