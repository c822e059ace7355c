"""Which kind of HDF5 a file is: a process of its own looks, because damaged bytes can crash the library."""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from pathlib import Path

from drivers.apart import ended

MAGIC = b"\x89HDF\r\n\x1a\n"
_IS_METAVISION = 10


def is_metavision(head: bytes, path: Path) -> bool:
    """Tell whether Metavision wrote a file, from its groups; no for what is no HDF5, or where h5py cannot look.

    Args:
        head: its first bytes.
        path: of the file.
    """
    if not head.startswith(MAGIC):
        return False
    look = path.stat()
    return _found(str(path), look.st_mtime_ns, look.st_size)


@lru_cache(maxsize=16)
def _found(path: str, mtime_ns: int, size_bytes: int) -> bool:
    """Ask once for a file as it is: every reader of HDF5 wants to know."""
    del mtime_ns, size_bytes
    return ended("drivers.hdf5_kind", path) == _IS_METAVISION


def main(path: str) -> int:
    """Look, in the child."""
    with importlib.import_module("h5py").File(path, "r") as file:
        return _IS_METAVISION if "CD" in file and "indexes" in file["CD"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
