"""Read a size-prefixed flatbuffer, field by field: what AEDAT4 has in its header and in each packet."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np


class Table:
    """A flatbuffer table: fields by number, absent ones give the default.

    Where its bytes make no sense, its methods raise `ValueError` or `struct.error`.
    """

    def __init__(self, data: memoryview, at: int) -> None:
        """Look at the table at byte `at` of `data`."""
        self._data = data
        self._at = at
        vtable = at - read_number("<i", data, at)
        size = read_number("<H", data, vtable)
        if size < 4:
            raise ValueError(f"a table's list of fields has {size} bytes, expected at least 4")
        # A tuple, because tables of a few numbers come by the thousand, and an array costs more than they do.
        self._fields: tuple[int, ...] = struct.unpack_from(f"<{size // 2 - 2}H", data, vtable + 4)

    @classmethod
    def root(cls, data: bytes | memoryview) -> Table:
        """The root table of a size-prefixed flatbuffer."""
        view = memoryview(data)
        return cls(view, 4 + read_number("<I", view, 4))

    def number(self, field: int, kind: str) -> int | float:
        """A scalar; `kind` is a struct format; 0 where absent."""
        at = self._place(field)
        value: int | float = struct.unpack_from(kind, self._data, at)[0] if at else 0
        return value

    def vector(self, field: int) -> tuple[int, int]:
        """(first byte, count) of a vector; (0, 0) where absent."""
        at = self._place(field)
        if not at:
            return 0, 0
        start = at + read_number("<I", self._data, at)
        return start + 4, read_number("<I", self._data, start)

    def array(self, field: int, dtype: np.dtype[np.void] | type[np.uint8]) -> np.ndarray:
        """A vector of scalars or structs as a view of the data."""
        start, count = self.vector(field)
        return np.frombuffer(self._data, dtype, count, start) if count else np.empty(0, dtype)

    def tables(self, field: int) -> Iterator[Table]:
        """A vector of tables."""
        start, count = self.vector(field)
        for at in range(start, start + 4 * count, 4):
            yield Table(self._data, at + read_number("<I", self._data, at))

    def _place(self, field: int) -> int:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._at + offset if offset else 0


def read_number(kind: str, data: memoryview, at: int) -> int:
    """Read the number at byte `at`; `kind` is a struct format.

    Raises:
        ValueError: a byte before the first.
        struct.error: it is not within the data.
    """
    if at < 0:
        raise ValueError(f"an offset points to byte {at}")
    value: int = struct.unpack_from(kind, data, at)[0]
    return value
