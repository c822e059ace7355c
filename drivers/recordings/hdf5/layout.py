"""Where an HDF5 file keeps its events and images: names of datasets and attributes, in the layouts that are common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.archive import in_natural_order
from drivers.sense import name_columns, unit_in_words
from nire.errors import SourceError

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
    """Find the columns in an open `h5py.File`; None where there are none of a known name.

    Raises:
        SourceError: a column has no single number for an event.
    """
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
            if not all(_is_one_each(part) for part in parts):
                shapes = ", ".join(f"{column} {part.shape}" for column, part in zip(names, parts, strict=True))
                raise SourceError(f"{file.filename}: the columns of {name} have the shapes {shapes}, expected (N,)")
            if len({len(part) for part in parts}) != 1:
                raise ValueError(f"the columns {', '.join(names)} of {name} have different lengths")
            columns = _columns([_Flat(part) for part in parts])
            return EventColumns(len(parts[0]), columns, name, unit=_unit_of(names[0], parts[0]))
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


def _is_one_each(dataset: Any) -> bool:
    """Tell whether a dataset is [N], or [N, 1] as MATLAB writes it."""
    return len(dataset.shape) >= 1 and all(side == 1 for side in dataset.shape[1:])


class _Flat:
    """A column of [N] or [N, 1]."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __getitem__(self, part: slice) -> NDArray[Any]:
        return np.asarray(self._column[part]).reshape(-1)


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
    """Find images with times in an open `h5py.File`; None where there are none of a known name.

    Raises:
        SourceError: images have times beside them that are not theirs, and no others have.
    """
    misfit = ""
    for name in _STACKS:
        images = file.get(name)
        found: Images | str | None = None
        if hasattr(images, "shape") and len(images.shape) in (3, 4):
            found = _of_stack(file, images, name)
        elif hasattr(images, "keys"):
            found = _of_group(images, name)
        if isinstance(found, Images):
            return found
        misfit = misfit or found or ""
    if misfit:
        raise SourceError(f"{file.filename} {misfit}")
    return None


def find_untimed(file: Any) -> str:
    """Find images of a known name that have no times, for people; "" where there are none."""
    for name in _STACKS:
        images = file.get(name)
        if hasattr(images, "shape") and len(images.shape) in (3, 4):
            return name
        if hasattr(images, "keys") and any(_is_image(image) for image in images.values()):
            return name
    return ""


def _of_stack(file: Any, stack: Any, name: str) -> Images | str | None:
    """A stack with times; what is wrong with those that are beside it; None where there are none."""
    beside = {key: file[key] for key in (pattern.format(name) for pattern in _TIMES) if key in file}
    for times in beside.values():
        if hasattr(times, "shape") and _is_one_each(times) and len(times) == len(stack):
            return Images(len(stack), stack.__getitem__, _stack_times(file, times), _words(stack), name)
    for key, times in beside.items():
        shape = getattr(times, "shape", ())
        if shape[:1] == (len(stack),):
            return (
                f"has in {key} the shape {shape}, expected one time for each of the {len(stack)} images in {name}. To "
                f"fix it, write exposures as exposure_start_us and exposure_end_us, and one of their times as {key}"
            )
        return (
            f"has {len(stack)} images in {name}, but {shape[0] if shape else 1} times in {key}. To fix it, write a "
            f"time for each image, or delete {key} to read the events alone"
        )
    return None


def _stack_times(file: Any, times: Any) -> Callable[[int], tuple[Any, tuple[Any, Any] | None]]:
    known = next(((file[a], file[b]) for a, b in _EXPOSURES if a in file and b in file), None)
    if known is None or len(known[0]) != len(times) or len(known[1]) != len(times):
        return lambda n: (times[n], None)
    return lambda n: (times[n], (known[0][n], known[1][n]))


def _single_images(group: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """(time as an attribute or None, dataset) of the images of a group, in the order of their numbers."""
    for name in in_natural_order(group):
        image = group[name]
        if _is_image(image):
            key = next((key for key in _TIME_ATTRIBUTES if key in image.attrs), None)
            yield None if key is None else image.attrs[key], image


def _is_image(dataset: Any) -> bool:
    """Tell whether a member of a group may be a single image."""
    return len(getattr(dataset, "shape", ())) in (2, 3)


def _of_group(group: Any, where: str) -> Images | str | None:
    """Single images with times; what is wrong where some have none; None where all have none."""
    images = list(_single_images(group))
    found = sorted((image for image in images if image[0] is not None), key=lambda image: float(np.ravel(image[0])[0]))
    if not found:
        return None
    count = sum(image.shape == found[0][1].shape for _, image in images)
    if len(found) < count:
        return (
            f"has {count} images in {where}, but only {len(found)} of them have the attribute timestamp. To fix it, "
            "write it for each image, or for none to read the events alone"
        )

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
