"""Where an HDF5 file keeps its events and images: names of datasets and attributes, in the layouts that are common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.archive import in_natural_order
from drivers.sense import name_columns, unit_in_words

# Where the columns, or a table of them, may be.
_GROUPS = ("events", "CD/events", "davis/left/events", "dvs/events", "/")
# A stack of images, and names that its times have; {} is the stack's own name.
_STACKS = (
    "images",
    "frames",
    "image",
    "frame",
    "image_raw",
    "davis/left/image_raw",
    "images/data",
    "images/images",
    "imgs",
)
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
_UNIT_ATTRIBUTES = ("unit", "units", "time_unit")
_WORDS = ("type", "encoding", "colour", "color", "colour_space", "color_space", "channels", "format")
_TIME_ATTRIBUTES = ("timestamp", "ts", "t", "timestamp_us")

Column = Callable[[slice], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Columns of events, read by slices, and what is said about them.

    Attributes:
        count: of events.
        columns: four of them; t, x, y, p where `order` is that, else as they stand.
        where: name of the group or dataset.
        order: of the columns where names tell it; "" = to be told from the values.
        usual: the order to prefer then.
        unit: of the times, as an attribute or a name says it; "" = not said.
    """

    count: int
    columns: tuple[Column, Column, Column, Column]
    where: str
    order: str = "txyp"
    usual: str = "txyp"
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Images:
    """Images in order, as the file has them.

    Attributes:
        count: of images.
        pixels: of an image by its number.
        times: (time, start and end of its exposure or None), in the file's unit.
        words: what the file says about its pixels, such as "color_bgr".
        where: name of the group or dataset.
    """

    count: int
    pixels: Callable[[int], NDArray[Any]]
    times: Callable[[int], tuple[Any, tuple[Any, Any] | None]]
    words: str
    where: str


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
        names = name_columns(key for key in where if hasattr(where[key], "shape"))
        if names is not None:
            parts = [where[column] for column in names]
            counts = {part.shape for part in parts}
            if len(counts) != 1 or len(parts[0].shape) != 1:
                raise ValueError(f"the columns {', '.join(names)} of {name} have different lengths")
            return EventColumns(parts[0].shape[0], _columns(parts), name, unit=_unit_of(names[0], parts[0]))
    return None


def _of_table(table: Any, name: str) -> EventColumns | None:
    """Columns of one dataset: of records with named fields, or [N, 4]."""
    if table.dtype.names:
        names = name_columns(table.dtype.names)
        if names is None:
            return None
        unit = _unit_of(names[0], table)
        return EventColumns(len(table), _columns([_Field(table, column) for column in names]), name, unit=unit)
    if len(table.shape) == 2 and table.shape[1] == 4:
        # MVSEC has x y t p, v2e has t x y p.
        usual = "xytp" if name.startswith("davis") else "txyp"
        parts = _columns([_Part(table, n) for n in range(4)])
        return EventColumns(len(table), parts, name, order="", usual=usual, unit=_unit_of("", table))
    return None


def _unit_of(name: str, dataset: Any) -> str:
    """The unit of times that a name or an attribute tells; "" where none does."""
    said = [str(dataset.attrs[key]) for key in _UNIT_ATTRIBUTES if key in dataset.attrs]
    return unit_in_words(f"time ({said[0]})" if said else f"time_{name.rpartition('_')[2]}")


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
                return Images(len(stack), stack.__getitem__, _stack_times(file, times), _words(stack), name)
        elif hasattr(stack, "keys"):
            found = sorted(_single_images(stack), key=lambda image: float(np.ravel(image[0])[0]))
            if found:
                return _of_group(found, name)
    return None


def _stack_times(file: Any, times: Any) -> Callable[[int], tuple[Any, tuple[Any, Any] | None]]:
    known = next(((file[a], file[b]) for a, b in _EXPOSURES if a in file and b in file), None)
    if known is None or len(known[0]) != len(times) or len(known[1]) != len(times):
        return lambda n: (times[n], None)
    return lambda n: (times[n], (known[0][n], known[1][n]))


def _single_images(group: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """(time, dataset) of the images of a group, each with its time as an attribute, in the order of their numbers."""
    for name in in_natural_order(group):
        image = group[name]
        key = next((key for key in _TIME_ATTRIBUTES if key in getattr(image, "attrs", ())), None)
        if key is not None and len(image.shape) in (2, 3):
            yield image.attrs[key], image


def _of_group(found: list[tuple[Any, Any]], where: str) -> Images:
    def times(n: int) -> tuple[Any, tuple[Any, Any] | None]:
        attributes = found[n][1].attrs
        pairs = ((attributes[a], attributes[b]) for a, b in _EXPOSURES if a in attributes and b in attributes)
        return found[n][0], next(pairs, None)

    return Images(len(found), lambda n: np.asarray(found[n][1]), times, _words(found[0][1]), where)


def _words(image: Any) -> str:
    return " ".join(str(image.attrs[key]) for key in _WORDS if key in image.attrs)


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
