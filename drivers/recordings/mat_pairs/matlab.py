"""Numbers in MATLAB's files of level 5 (`save -v6` and `-v7`); anything that is no array of numbers is passed over.

Read by hand, because a reader in C takes the process with it where bytes are damaged.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nire.errors import SourceError

_HEAD_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_MOST_BYTES = 1 << 30
_ZLIB_RATIO = 1032  # the most that zlib can shrink
# Types of data, and the classes of arrays that hold numbers.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = range(6, 16)


def read_arrays(data: bytes) -> dict[str, NDArray[np.float64]]:
    """Read the arrays of numbers of a file.

    Args:
        data: of the whole file.

    Returns:
        By name, float64 [N] in the order of memory (columns first).

    Raises:
        SourceError: a file of another level.
        ValueError, zlib.error: it is damaged.
    """
    if data[:10] == b"MATLAB 7.3":
        raise SourceError("it was saved by MATLAB as -v7.3, which is not read: save it as -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEAD_BYTES])
    if order is None:
        raise ValueError(f"{len(data)} bytes are no MATLAB file of level 5")
    arrays: dict[str, NDArray[np.float64]] = {}
    for kind, body in _elements(data[_HEAD_BYTES:], order):
        if kind == _COMPRESSED:
            for inner, matrix in _elements(_inflated(body), order):
                _add(arrays, inner, matrix, order)
        else:
            _add(arrays, kind, body, order)
    return arrays


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, bytes) of the elements that follow one another; each begins at a multiple of 8 unless it is compressed."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError(f"it ends inside an element at byte {at}")
        kind, count = struct.unpack_from(f"{order}II", data, at)
        begin = at + 8
        if kind >> 16:  # a small one: its bytes stand where the count would
            kind, count, begin = kind & 0xFFFF, kind >> 16, at + 4
            end = at + 8
        else:
            end = begin + count + (0 if kind == _COMPRESSED else -count % 8)
        if begin + count > len(data):
            raise ValueError(f"an element at byte {at} claims {count} bytes, {len(data) - begin} are left")
        yield kind, data[begin : begin + count]
        at = end


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    inflated = stream.decompress(data, min(_MOST_BYTES, _ZLIB_RATIO * len(data) + 1))
    if not stream.eof:
        raise ValueError("compressed data end too early, or are too many")
    return inflated


def _add(arrays: dict[str, NDArray[np.float64]], kind: int, data: bytes, order: str) -> None:
    """Add an array, if an element is one of real numbers."""
    if kind != _MATRIX:
        return
    parts = list(_elements(data, order))
    if len(parts) < 4 or len(parts[0][1]) < 8:
        return
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    if flags & 0xFF not in _CLASSES or parts[3][0] not in _TYPES:
        return
    values = np.frombuffer(parts[3][1], order + _TYPES[parts[3][0]])
    shape = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    name = parts[2][1].decode("ascii", "replace").rstrip("\0")
    if values.size != math.prod(shape):
        raise ValueError(f"the array {name} of {shape} has {values.size} values")
    arrays[name] = values.astype(np.float64)
