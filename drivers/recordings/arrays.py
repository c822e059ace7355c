"""Events alone as NumPy arrays: `.npz` or `.npy` with t, x, y, p, or a folder of numbered ones, as in Time Lens."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.array_files import array_names, is_npz, read_array, read_arrays
from drivers.event_columns import BadEvent, events_of
from drivers.packets.ordering import sorted_within
from drivers.recording_file import RecordingFile
from drivers.sense import (
    GUESSED_SIZE,
    LARGEST_PX,
    Polarity,
    Times,
    TimeUnit,
    check_meaning,
    coordinate,
    find_order,
    find_polarity,
    find_reach,
    find_unit,
    name_columns,
    time_us,
    unit_in_words,
    whole_rows,
)
from drivers.settings import checked_size
from drivers.source import Found, SourceInfo
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Geometry, SourcePacket

_MAGIC = b"\x93NUMPY"
_PIECE, _JUDGED = 1 << 16, 1 << 16
_TABLE = "events"  # an array that may hold all columns
_NUMBERED = re.compile(r"\d+\.np[zy]$")
# BS-ERGB has coordinates after rectification, in parts of a pixel, as 16 bits: those left of 0 wrap around.
_PARTS_OF_A_PIXEL, _TURN, _NEGATIVE_FROM = 32, 1 << 16, (1 << 16) - (1 << 12)

_Columns = list[NDArray[Any]]


def recognise(head: bytes, path: Path) -> bool:
    """Tell whether a file is an array of events, or has arrays t, x, y, p and no frames, or a folder such files."""
    if path.is_dir():
        pieces = pieces_of(path)
        return bool(pieces) and _has_events(pieces[0])
    return head.startswith((_MAGIC, b"PK")) and _has_events(path)


def open_source(
    path: str | Path,
    *,
    columns: str = "",
    time_unit: TimeUnit = "auto",
    polarity: Polarity = "auto",
    sort_us: int = -1,
    width: int = 0,
    height: int = 0,
) -> ArraysSource:
    """Open a recording; it is checked on entry. Memory holds one file of a folder, of a `.npy` one piece.

    Args:
        path: a file, or a folder of `000000.npz`, `000001.npz`, ...
        columns: order of the columns of a matrix [N, 4], e.g. "xytp"; "" = as fits.
        time_unit: of the times; "auto" = fractions are seconds and whole numbers microseconds, where that fits.
        polarity: "auto" = 0 and 1, or -1 and 1; "positive" = above 0 is brighter; "inverted" = any other is.
        sort_us: within which to sort events by time, us; -1 = as far as the first ones need it, up to a second.
        width, height: of the sensor; 0 = as the largest coordinates, which costs a pass over the files.

    Raises:
        ConfigError: a setting has no meaning.
    """
    check_meaning("arrays", columns, time_unit, polarity, sort_us)
    size = checked_size("arrays", width, height) or (0, 0)
    return ArraysSource(Path(path), _Meaning(columns, time_unit, polarity, sort_us), size)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What the numbers mean: as the user says it, and once entered as it was found."""

    columns: str
    unit: TimeUnit
    polarity: Polarity
    sort_us: int
    parts: int = 1


class ArraysSource(RecordingFile):
    """The source. It has no frames."""

    def __init__(self, path: Path, meaning: _Meaning, size: tuple[int, int]) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._said = meaning
        self._meaning = meaning
        self._size = size

    def _look(self) -> SourceInfo:
        """Judge the first events.

        Raises:
            SourceError: no such file, no events in it, or what its numbers mean cannot be told.
            RecordingDamaged: the first file cannot be read.
        """
        files = self._files()
        if not files:
            raise SourceError(f"{self.path} has no numbered .npz or .npy files")
        found = list(self._judge(files))
        size = self._size
        if not all(size):
            size = self._largest(files)
            found.append(Found("size", f"{size[0]} x {size[1]}", GUESSED_SIZE))
        return SourceInfo(self.path.name, Geometry(*size), has_frames=False, found=tuple(found))

    def _play(self) -> Iterator[SourcePacket]:
        """Yield events in pieces.

        Raises:
            RecordingDamaged: a file cannot be read; all before it was delivered.
        """
        return sorted_within(self._batches(), self._meaning.sort_us)

    def _batches(self) -> Iterator[EventBatch]:
        for number, file in enumerate(self._files()):
            columns, _ = _columns_of(file)
            order = self._meaning.columns
            for start in range(0, len(columns[0]), _PIECE):
                t, x, y, p = (columns[order.index(letter)][start : start + _PIECE] for letter in "txyp")
                rows = np.asarray(t), self._axis(x), self._axis(y), np.asarray(p)
                try:
                    yield from events_of(rows, unit=self._meaning.unit, polarity=self._meaning.polarity)
                except BadEvent as error:
                    at = start + error.index
                    raise RecordingDamaged(f"{file}: event {at}: {error}; all before was delivered", number) from error

    def _files(self) -> list[Path]:
        return pieces_of(self.path) if self.path.is_dir() else [self.path]

    def _judge(self, files: list[Path]) -> Iterator[Found]:
        """Tell columns, unit and parts of a pixel; remember them."""
        columns, names = next(
            (found for file in files if len((found := _columns_of(file))[0][0])), _columns_of(files[0])
        )
        first = np.stack([np.asarray(column[:_JUDGED]).astype(np.float64) for column in columns])
        first = whole_rows(first, path=self.path)
        order = Found("columns", "txyp", "named")
        if not names:
            order = find_order(first, self._said.columns, path=self.path)
            yield order
        t, x, y, p = (first[order.value.index(letter)] for letter in "txyp")
        polarity = find_polarity(p, self._said.polarity, path=self.path)
        largest = max(x.max(initial=0), y.max(initial=0))
        if largest >= _TURN:
            raise SourceError(
                f"{self.path}: coordinates go up to {largest:g}: no sensor has so many pixels, and parts of a pixel "
                f"are of 16 bits, at most {_TURN - 1}"
            )
        parts = 1 if largest <= LARGEST_PX else _PARTS_OF_A_PIXEL
        if parts > 1:
            yield Found(
                "coordinates", f"1/{parts} pixel", f"values up to {largest:g} are on no sensor, BS-ERGB has these"
            )
        kind = columns[order.value.index("t")].dtype.kind
        times = Times(t, pixels=_pixels(x, y, parts), is_whole=True if kind in "iu" else None)
        said = unit_in_words(f"time_{names[0].rpartition('_')[2]}") if names else ""
        unit = find_unit(times, self._said.unit, path=self.path, said=said)
        yield unit
        yield polarity
        reach_us, sorting = find_reach(time_us(t, unit.value), self._said.sort_us, path=self.path)
        yield from sorting
        self._meaning = _Meaning(order.value, unit.value, self._said.polarity, reach_us, parts)  # type: ignore[arg-type]

    def _largest(self, files: list[Path]) -> tuple[int, int]:
        size = [1, 1]
        for file in files:
            columns, _ = _columns_of(file)
            for n, letter in enumerate("xy"):
                column = columns[self._meaning.columns.index(letter)]
                for start in range(0, len(column), _PIECE):
                    axis = self._axis(column[start : start + _PIECE])
                    size[n] = max(size[n], int(axis[axis <= LARGEST_PX].max(initial=0)) + 1)
        return size[0], size[1]

    def _axis(self, column: NDArray[Any]) -> NDArray[np.uint16]:
        values = np.asarray(column)
        if self._meaning.parts == 1:
            return coordinate(values)
        signed = np.where(values >= _NEGATIVE_FROM, values.astype(np.float64) - _TURN, values)
        return coordinate(np.rint(signed / self._meaning.parts))


def pieces_of(folder: Path) -> list[Path]:
    """Find the numbered files of a folder, in order."""
    found = [file for file in folder.iterdir() if _NUMBERED.fullmatch(file.name)]
    return sorted(found, key=lambda file: int(file.stem))


def _pixels(x: NDArray[np.float64], y: NDArray[np.float64], parts: int) -> int:
    sides = (min(axis.max(initial=0) / parts + 1, LARGEST_PX) for axis in (x, y))
    return int(next(sides) * next(sides))


def _has_events(path: Path) -> bool:
    try:
        if is_npz(path):
            names = array_names(path)
            if any("frame" in name or "image" in name for name in names):
                return False
            if name_columns(names) is not None or _TABLE not in names:
                return name_columns(names) is not None
            array = read_arrays(path, [_TABLE])[_TABLE]
        else:
            array = read_array(path)
    except SourceError:
        return False
    return (array.dtype.names is not None and name_columns(array.dtype.names) is not None) or (
        array.dtype.names is None and array.ndim == 2 and array.shape[1] == 4
    )


def _columns_of(path: Path) -> tuple[_Columns, tuple[str, ...]]:
    """The columns of a file, and their names: t, x, y, p where they have names, else as they stand."""
    if is_npz(path):
        names = name_columns(array_names(path))
        if not zipfile.is_zipfile(path):
            raise RecordingDamaged(f"{path} is damaged: it has no list of its arrays")
        if names is not None:
            arrays = read_arrays(path, names)
            columns = [arrays[name].reshape(-1) for name in names]
            if len({len(column) for column in columns}) != 1:
                raise RecordingDamaged(f"{path}: its arrays {', '.join(names)} have different lengths")
            return _numbers(columns, path), names
        if _TABLE not in array_names(path):
            raise SourceError(f"{path} has the arrays {', '.join(array_names(path))}, expected t, x, y, p")
    array = read_arrays(path, [_TABLE])[_TABLE] if is_npz(path) else read_array(path)
    if array.dtype.names is not None and (named := name_columns(array.dtype.names)) is not None:
        return _numbers([array[name] for name in named], path), named
    if array.ndim != 2 or array.shape[1] != 4:
        raise SourceError(f"{path} is {array.dtype} {array.shape}, expected records of t, x, y, p or [N, 4]")
    return _numbers([array[:, n] for n in range(4)], path), ()


def _numbers(columns: _Columns, path: Path) -> _Columns:
    if any(column.dtype.kind not in "biuf" or column.ndim != 1 for column in columns):
        raise SourceError(
            f"{path} has columns of {', '.join(str(column.dtype) for column in columns)}, expected numbers"
        )
    return columns
