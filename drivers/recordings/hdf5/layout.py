"""Where an HDF5 file keeps its events and images: names of datasets and attributes, in the layouts that are common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Groups that hold the columns, and what the columns t, x, y, p are called there.
_GROUPS = ("events", "CD/events", "davis/left/events", "dvs/events", "/")
_COLUMNS = (
    ("t", "x", "y", "p"),
    ("ts", "xs", "ys", "ps"),
    ("timestamps", "x", "y", "polarity"),
    ("timestamp", "x", "y", "polarity"),
    ("timestamps", "x", "y", "polarities"),
    ("t", "x", "y", "polarity"),
    ("ts", "x", "y", "p"),
)
# A stack of images, and names that its times have; {} is the stack's own name.
_STACKS = ("images", "frames", "image", "image_raw", "davis/left/image_raw", "images/data", "images/images", "imgs")
_TIMES = (
    "{}_ts",
    "{}_timestamps",
    "{}_t",
    "image_ts",
    "image_timestamps",
    "frame_ts",
    "images/timestamps",
    "images/ts",
)
_EXPOSURES = (
    ("exposure_start_us", "exposure_end_us"),
    ("images/exposure_start", "images/exposure_end"),
    ("exposure_start", "exposure_end"),
)
_TIME_ATTRIBUTES = ("timestamp", "ts", "t", "timestamp_us")

Column = Callable[[slice], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Columns of events, read by slices, and what is said about them.

    Attributes:
        count: of events.
        columns: t, x, y, p.
        where: name of the group or dataset.
    """

    count: int
    columns: tuple[Column, Column, Column, Column]
    where: str


@dataclass(frozen=True, slots=True)
class Images:
    """Images in order: `pixels(n)` and `times(n)` = (time, start and end of exposure or None), in the file's unit."""

    count: int
    pixels: Callable[[int], NDArray[Any]]
    times: Callable[[int], tuple[Any, tuple[Any, Any] | None]]


def find_events(file: Any) -> EventColumns | None:
    """Find the columns in an open `h5py.File`; None where there are none of a known name."""
    for name in _GROUPS:
        where = file.get(name)
        if where is None:
            continue
        if hasattr(where, "shape"):
            found = _of_table(where, name)
            if found is not None:
                return found
            continue
        for names in _COLUMNS:
            if all(column in where for column in names):
                parts = [where[column] for column in names]
                counts = {part.shape for part in parts}
                if len(counts) != 1 or len(parts[0].shape) != 1:
                    raise ValueError(f"the columns {', '.join(names)} of {name} have different lengths")
                return EventColumns(parts[0].shape[0], _columns(parts), name)
    return None


def _of_table(table: Any, name: str) -> EventColumns | None:
    """Columns of one dataset: of records with named fields, or [N, 4] in the order x, y, t, p."""
    if table.dtype.names:
        for names in _COLUMNS:
            if set(names) <= set(table.dtype.names):
                return EventColumns(len(table), _columns([_Field(table, column) for column in names]), name)
        return None
    if len(table.shape) == 2 and table.shape[1] == 4:
        return EventColumns(len(table), _columns([_Part(table, n) for n in (2, 0, 1, 3)]), name)
    return None


class _Field:
    """A field of records; h5py reads only that."""

    def __init__(self, table: Any, name: str) -> None:
        self._table, self._name = table, name

    def __getitem__(self, part: slice) -> NDArray[Any]:
        return np.asarray(self._table[part][self._name])


class _Part:
    """A column of a matrix."""

    def __init__(self, table: Any, column: int) -> None:
        self._table, self._column = table, column

    def __getitem__(self, part: slice) -> NDArray[Any]:
        return np.asarray(self._table[part, self._column])


def _columns(parts: list[Any]) -> tuple[Column, Column, Column, Column]:
    t, x, y, p = (part.__getitem__ for part in parts)
    return t, x, y, p


def find_images(file: Any) -> Images | None:
    """Find images with times in an open `h5py.File`; None where there are none of a known name."""
    for name in _STACKS:
        stack = file.get(name)
        if stack is None:
            continue
        if hasattr(stack, "shape") and len(stack.shape) in (3, 4):
            times = next((file[key] for key in (t.format(name) for t in _TIMES) if key in file), None)
            if times is not None and len(times) == len(stack):
                return Images(len(stack), stack.__getitem__, _stack_times(file, times))
        elif hasattr(stack, "keys"):
            found = list(_single_images(stack))
            if found:
                return _of_group(found)
    return None


def _stack_times(file: Any, times: Any) -> Callable[[int], tuple[Any, tuple[Any, Any] | None]]:
    known = next(((file[a], file[b]) for a, b in _EXPOSURES if a in file and b in file), None)
    if known is None or len(known[0]) != len(times) or len(known[1]) != len(times):
        return lambda n: (times[n], None)
    return lambda n: (times[n], (known[0][n], known[1][n]))


def _single_images(group: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """(time, dataset) of the images of a group, each with its time as an attribute, in order."""
    for name in sorted(group):
        image = group[name]
        key = next((key for key in _TIME_ATTRIBUTES if key in getattr(image, "attrs", ())), None)
        if key is not None and len(image.shape) in (2, 3):
            yield image.attrs[key], image


def _of_group(found: list[tuple[Any, Any]]) -> Images:
    def times(n: int) -> tuple[Any, tuple[Any, Any] | None]:
        attributes = found[n][1].attrs
        pairs = ((attributes[a], attributes[b]) for a, b in _EXPOSURES if a in attributes and b in attributes)
        return found[n][0], next(pairs, None)

    return Images(len(found), lambda n: np.asarray(found[n][1]), times)


def find_size(file: Any, events: EventColumns) -> tuple[int, int] | None:
    """Width and height where the file says them: attributes, or the fixed sensor of DSEC."""
    holders = [file.attrs, getattr(file.get(events.where), "attrs", {})]
    for attributes in holders:
        if "sensor_resolution" in attributes:  # rows first, as the layout with single images has it
            height, width = (int(n) for n in list(attributes["sensor_resolution"])[:2])
            return width, height
        for names in (("width", "height"), ("sensor_width", "sensor_height")):
            if all(name in attributes for name in names):
                return int(attributes[names[0]]), int(attributes[names[1]])
    return (640, 480) if "ms_to_idx" in file and "t_offset" in file else None
