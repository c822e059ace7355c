"""Prophesee's DAT recordings: events, or trigger edges, decoded and written one record each (versions 1 and 2)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.prophesee.file import Layout, PropheseeFile, read_at
from drivers.prophesee.header import PropheseeHeader, parse_header, read_header
from drivers.settings import checked_size
from nire.errors import RecordingDamaged, SourceError
from nire.types import Geometry

if TYPE_CHECKING:
    from drivers.prophesee.evt import Encoding

_EVENT_2D, _EVENT_CD, _EVENT_TRIGGER = 0x00, 0x0C, 0x0E
_RECORD_BYTES = 8
_ATIS = (304, 240)  # the one sensor of version 1, whose records have no room for a larger one


def recognise(head: bytes, path: Path) -> bool:
    """Tell from its header whether a file is a DAT recording."""
    return parse_header(head).is_dat


def open_source(path: str | Path, width: int = 0, height: int = 0) -> PropheseeFile:
    """Open a recording; its header is read on entry. A file of trigger edges gives edges and empty batches.

    Args:
        path: the file.
        width, height: of the sensor, pixels; 0 = as the header says.

    Raises:
        ConfigError: only one of width and height is set, or one is negative.
    """
    return PropheseeFile(Path(path), partial(_look, size=checked_size("prophesee_dat", width, height)))


def _look(path: Path, *, size: tuple[int, int] | None) -> Layout:
    header = read_header(path)
    if not header.is_dat:
        raise SourceError(f"{path} is no DAT recording: its header does not say what the file contains")
    kind = read_at(path, header.first_byte, 2)
    if len(kind) < 2:
        raise RecordingDamaged(f"{path} ends at byte {header.first_byte}, in its header", header.first_byte)
    if kind[1] != _RECORD_BYTES:
        raise SourceError(f"{path} has records of {kind[1]} bytes, expected {_RECORD_BYTES}")
    version = _version(path, header)
    if version < 2 and size is None and not header.says_size:
        size = _ATIS
    # Edges have no place on a sensor: any size will do for them.
    geometry = Geometry(1, 1) if kind[0] == _EVENT_TRIGGER and size is None else header.geometry(path, size)
    return Layout(_encoding(path, kind[0], version), header.first_byte + 2, geometry, header.camera)


def _version(path: Path, header: PropheseeHeader) -> int:
    written = header.fields.get("version", "2")
    if written not in ("0", "1", "2"):
        raise SourceError(f"{path} is a DAT recording of version {written!r}; 1 and 2 can be read")
    return int(written)


def _encoding(path: Path, kind: int, version: int) -> Encoding:
    if kind == _EVENT_TRIGGER:
        return "DAT triggers"
    if kind not in (_EVENT_2D, _EVENT_CD):
        raise SourceError(
            f"{path} has records of type {kind:#04x}; events ({_EVENT_2D:#04x}, {_EVENT_CD:#04x}) and trigger edges "
            f"({_EVENT_TRIGGER:#04x}) can be read"
        )
    return "DAT2" if version == 2 else "DAT1"
