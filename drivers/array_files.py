"""NumPy's files, read without believing them: `.npz` archives of arrays, and `.npy` mapped into memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.archive import UNREADABLE_ARCHIVE
from nire.errors import RecordingDamaged, SourceError

# What zipfile, zlib and numpy raise on damaged archives.
_UNREADABLE = (*UNREADABLE_ARCHIVE, SyntaxError, TypeError, MemoryError, IndexError, AttributeError, RecursionError)


def is_npz(path: Path) -> bool:
    """Tell whether a file begins as a zip archive does.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"PK"
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error


def array_names(path: Path) -> list[str]:
    """Names of the arrays of an archive, in order; none where it is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except UNREADABLE_ARCHIVE:
        return []


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Read arrays of an archive.

    Args:
        path: of the archive.
        names: of the arrays.

    Raises:
        SourceError: it cannot be read at all, or has Python objects in it.
        RecordingDamaged: it is damaged, or an array claims more than the archive holds of it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                _check_size(archive, f"{name}.npy")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except _UNREADABLE as error:
        raise RecordingDamaged(f"{path}: the archive is damaged: {error}") from error


def read_array(path: Path) -> NDArray[Any]:
    """Map a `.npy` file into memory.

    Raises:
        SourceError: it has Python objects in it.
        RecordingDamaged: its head is damaged, or it is shorter than that claims.
    """
    try:
        with open(path, "rb") as file:
            _, dtype = _head_of(file)
        if dtype.hasobject:
            raise SourceError(f"{path} has Python objects in it, expected numbers: save them as arrays of numbers")
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except _UNREADABLE as error:
        raise RecordingDamaged(f"{path} is damaged: {error}") from error


def _check_size(archive: zipfile.ZipFile, name: str) -> None:
    """Compare the size that an array claims with the archive's, before as much memory is asked for.

    Raises:
        SourceError: it has Python objects in it.
        ValueError: it claims more than the archive holds of it.
    """
    member = archive.getinfo(name)
    with archive.open(member) as file:
        shape, dtype = _head_of(file)
    if dtype.hasobject:
        raise SourceError(f"{archive.filename}: {name} has Python objects in it, expected numbers")
    # Deflate packs no tighter than 1032 times.
    holds = min(member.file_size, 1032 * member.compress_size + 1024)
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize > holds:
        raise ValueError(f"{name} claims {dtype} {shape} in {member.compress_size} bytes")


def _head_of(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype
