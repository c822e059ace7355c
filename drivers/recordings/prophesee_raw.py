"""Prophesee's RAW recordings: events and trigger edges in EVT 2.0, 2.1 or 3.0."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivers.prophesee.file import Layout, PropheseeFile, read_at
from drivers.prophesee.header import PropheseeHeader, parse_header, read_header
from drivers.settings import checked_size
from nire.errors import SourceError

if TYPE_CHECKING:
    from drivers.prophesee.evt import Encoding

_SNIFFED_BYTES = 1 << 15
_EVT21_TYPES = (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)
_TIME_HIGH = 0x8


def recognise(head: bytes, path: Path) -> bool:
    """Tell from its header whether a file is a RAW recording."""
    return parse_header(head).is_raw


def open_source(path: str | Path, width: int = 0, height: int = 0) -> PropheseeFile:
    """Open a recording; its header is read on entry.

    The sensor's size is looked for in the header's `geometry`, then in its `format`, then among the sensors that its
    `plugin_name` may mean. Edges carry the channel of the sensor; `rising` is the signal's direction.

    Args:
        path: the file.
        width, height: of the sensor, pixels; 0 = as the header says.

    Raises:
        ConfigError: only one of width and height is set, or one is negative.
    """
    return PropheseeFile(Path(path), partial(_look, size=checked_size("prophesee_raw", width, height)))


def _look(path: Path, *, size: tuple[int, int] | None) -> Layout:
    header = read_header(path)
    if not header.is_raw:
        raise SourceError(f"{path} is no RAW recording: its header names no encoding (% evt or % format)")
    return Layout(_encoding(path, header), header.first_byte, header.geometry(path, size), header.camera)


def _encoding(path: Path, header: PropheseeHeader) -> Encoding:
    name, options = header.encoding
    if name == "EVT2":
        return "EVT2"
    if name == "EVT3":
        return "EVT3"
    if name != "EVT21":
        raise SourceError(
            f"{path} is encoded as {name!r}; EVT2, EVT21 and EVT3 can be read. Images that a camera made of events "
            "cannot be turned back into events: record one of these encodings"
        )
    order = options.get("endianness", "")
    if order == "legacy":
        return "EVT21 legacy"
    return "EVT21" if order == "little" else _sniffed(read_at(path, header.first_byte, _SNIFFED_BYTES))


def _sniffed(data: bytes) -> Encoding:
    """Tell which half of EVT 2.1 words has the type: sensors differ, and older headers do not say."""
    halves = np.frombuffer(data, "<u4", len(data) // 8 * 2).reshape(-1, 2)
    first, second = np.isin(halves >> 28, _EVT21_TYPES).sum(axis=0)
    if first == second:
        # Masks of pixels look like types where few pixels are set. Times tell: every stream has them, and they rise.
        first, second = (_rising_times(half) for half in halves.T)
    return "EVT21" if second > first else "EVT21 legacy"


def _rising_times(words: NDArray[np.uint32]) -> int:
    """How many of some words are times, if these rise; else none."""
    times = words[words >> 28 == _TIME_HIGH] & 0x0FFF_FFFF
    return int(times.size) if (np.diff(times.astype(np.int64)) >= 0).all() else 0
