"""A table with the times of images, a line for each: told apart are times, exposures, counts and names."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.archive import IMAGE_SUFFIXES
from drivers.sense import are_exposures, unit_in_words
from drivers.source import Found
from nire.errors import RecordingDamaged, SourceError

COLUMNS = ("", "time", "start end", "id time", "id start end")
"""What the numbers of a line may be; a name of an image may stand anywhere beside them."""

_LATEST = 1e19  # of a time, in any unit: more is damage
_MOST_CHARACTERS = 4096  # no line of a table is longer
_WORDS = {
    "time": r"time\w*|ts|stamp\w*|t",
    "start": r"(?:exposure)?_?start\w*|begin\w*|exposure_start\w*",
    "end": r"(?:exposure)?_?(?:end|stop)\w*|exposure_end\w*",
    "id": r"id|index|frame(?:_?id|_?number|_?index)?|n|no|seq\w*|#",
}


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Rows of a table: by time where they have names, else in their order.

    Attributes:
        start, end: float64 [N], in the file's unit; equal where no exposure is known.
        names: of the images, "" where the table has none.
        are_exposures: `start` and `end` are those of exposures.
        said_unit: the unit that a comment names, "" = none.
        found: what the columns were taken for, and why.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    names: tuple[str, ...]
    are_exposures: bool
    said_unit: str
    found: Found


def read_frame_table(text: str, *, path: object, columns: str = "", is_named: bool = False) -> FrameTable:
    """Read a table; lines of words before its first row, and comments, may name the columns.

    Args:
        text: of the table.
        path: for messages.
        columns: one of `COLUMNS`; "" = by the file's own words, else by what fits.
        is_named: each row has the name of an image.

    Raises:
        RecordingDamaged: a line that is no row.
        SourceError: what the numbers are cannot be told; the message names the setting.
    """
    said, unit = "", ""
    rows: list[list[float]] = []
    names: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = [word for word in re.split(r"[\s,;]+", line.strip()[:_MOST_CHARACTERS]) if word]
        if not words:
            continue
        numbers = [float(word) for word in words if _is_time(word)]
        others = [word for word in words if not _is_time(word)]
        is_heading = not rows and not numbers and not any(_is_image(word) for word in words)
        if words[0].startswith(("#", "%", "//")) or is_heading:
            said, unit = _columns_in_words(line) or said, unit_in_words(line) or unit
            continue
        name = others[0] if len(others) == 1 and "\0" not in others[0] else ""
        if not numbers or len(numbers) > 3 or len(others) > 1 or bool(name) != bool(others or is_named):
            raise _no_row(path, number, line)
        if rows and (len(numbers) != len(rows[0]) or bool(name) != bool(names[0])):
            raise _no_row(path, number, line)
        rows.append(numbers)
        names.append(name)
    table = np.array(rows, np.float64).reshape(len(rows), -1 if rows else 1)
    chosen, found = _choose(table, columns, said, path)
    parts = chosen.split()
    start = table[:, parts.index("start") if "start" in parts else parts.index("time")]
    end = table[:, parts.index("end")] if "end" in parts else start
    if (wrong := np.flatnonzero(end < start)).size:
        raise RecordingDamaged(f"{path}: row {wrong[0] + 1} ends its exposure before it begins", int(wrong[0]))
    order = np.argsort(start, kind="stable") if is_named or any(names) else np.arange(len(start))
    names = [names[n] for n in order]
    return FrameTable(start[order], end[order], tuple(names), "end" in parts, unit, found)


def _choose(table: NDArray[np.float64], columns: str, said: str, path: object) -> tuple[str, Found]:
    """Tell what the numbers of a row are: one of `COLUMNS`."""
    width = table.shape[1]
    for order, why in ((columns, "set by image_columns"), (said, "the file names them")):
        if order and len(order.split()) == width:
            return order, Found("columns of images", order, why)
    fitting = [order for order in COLUMNS if order and len(order.split()) == width and _fits(table, order)]
    if len(fitting) == 1:
        return fitting[0], Found("columns of images", fitting[0], "the only meaning that the values fit")
    head = "; ".join(" ".join(f"{value:.16g}" for value in row) for row in table[:2])
    raise SourceError(
        f"{path} does not tell what the {width} numbers of its rows are ({head}; ...): {len(fitting)} meanings fit. To "
        f"fix it, set source.settings.image_columns to one of {', '.join(repr(order) for order in COLUMNS if order)}"
    )


def _fits(table: NDArray[np.float64], order: str) -> bool:
    if not len(table):
        return True
    is_counted = order.startswith("id")
    if is_counted and (len(table) < 2 or table[0, 0] != np.rint(table[0, 0]) or (np.diff(table[:, 0]) != 1).any()):
        return False
    times = table[:, 1:] if is_counted else table
    return times.shape[1] == 1 or are_exposures(times[:, 0], times[:, 1])


def _columns_in_words(line: str) -> str:
    """Find the order of columns in a line of names; "" where it names none that is known."""
    parts = []
    for word in re.findall(r"[a-z_]+", line.lower()):
        part = next((part for part, words in _WORDS.items() if re.fullmatch(words, word)), "")
        if part and part not in parts:
            parts.append(part)
    order = " ".join(parts)
    return order if order in COLUMNS else ""


def _is_time(word: str) -> bool:
    try:
        value = float(word)
    except ValueError:
        return False
    return abs(value) < _LATEST and not _is_image(word)


def _is_image(word: str) -> bool:
    return word.lower().endswith(tuple(IMAGE_SUFFIXES))


def _no_row(path: object, number: int, line: str) -> RecordingDamaged:
    return RecordingDamaged(
        f"line {number} of {path} is no row of times ({', '.join(repr(order) for order in COLUMNS if order)}) and the "
        f"name of an image: {line[:60]!r}",
        number,
    )
