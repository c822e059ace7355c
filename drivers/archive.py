"""Recordings of many files: a folder or a zip archive as names that can be opened, and images decoded."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.errors import RecordingDamaged, SourceError

UNREADABLE_ARCHIVE = (
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, OverflowError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
"""What damaged archives and names make zipfile, zlib and the file system raise."""
_MOST_BYTES = 1 << 30
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp"})


@dataclass(frozen=True, slots=True)
class Members:
    """The files of a folder or an archive.

    Attributes:
        path: of the folder or the archive.
        names: relative, with /, in natural order (image2 before image10).
    """

    path: Path
    names: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> Members:
        """Look into a folder (not deeper than three levels) or a zip archive.

        Raises:
            SourceError: it is neither, or cannot be read.
        """
        try:
            if path.is_dir():
                found = [p for pattern in ("*", "*/*", "*/*/*") for p in path.glob(pattern) if p.is_file()]
                return cls(path, _ordered(p.relative_to(path).as_posix() for p in found))
            with zipfile.ZipFile(path) as archive:
                return cls(path, _ordered(name for name in archive.namelist() if not name.endswith("/")))
        except UNREADABLE_ARCHIVE as error:
            raise SourceError(f"{path} can be read neither as a folder nor as a zip archive: {error}") from error

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open one file for reading.

        Raises:
            SourceError: it went away.
        """
        try:
            if self.path.is_dir():
                return open(self.path / name, "rb")
            with zipfile.ZipFile(self.path) as archive:
                return archive.open(name)  # keeps the archive's file open by itself
        except UNREADABLE_ARCHIVE as error:
            raise SourceError(f"cannot read {name} of {self.path}: {error}") from error

    def read(self, name: str) -> bytes:
        """Read a whole file, at most 1 GB.

        Raises:
            RecordingDamaged: it is missing, larger, or cannot be unpacked.
        """
        try:
            with self.open(name) as file:
                data = file.read(_MOST_BYTES + 1)
        except (SourceError, *UNREADABLE_ARCHIVE) as error:
            raise RecordingDamaged(f"{self.path}: {name} cannot be read: {error}") from error
        if len(data) > _MOST_BYTES:
            raise RecordingDamaged(f"{self.path}: {name} unpacks to more than {_MOST_BYTES} bytes")
        return data

    def find(self, *names: str) -> str | None:
        """The first file of one of these names that lies least deep; None where there is none."""
        for wanted in names:
            found = [name for name in self.names if name.rpartition("/")[2] == wanted]
            if found:
                return min(found, key=lambda name: name.count("/"))
        return None

    def image(self, name: str) -> NDArray[np.uint8]:
        """Read an image: uint8 [H, W, 1] or [H, W, 3] RGB.

        Raises:
            RecordingDamaged: it is missing or cannot be decoded.
        """
        try:
            return decode_image(self.read(name))
        except ValueError as error:
            raise RecordingDamaged(f"{self.path}: the image {name} cannot be read: {error}") from error


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode PNG, JPEG and what else OpenCV knows: uint8 [H, W, 1] or [H, W, 3] RGB; 16 bits lose the lower 8.

    Raises:
        ValueError: it is no image.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:
        raise ValueError(f"{len(data)} bytes are no image: {error}") from error
    if image is None:
        raise ValueError(f"{len(data)} bytes are no image that OpenCV decodes")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"an image of {image.dtype}, expected 8 or 16 bits")
    if image.ndim == 2:
        return np.ascontiguousarray(image[..., None])
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB), np.uint8)


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=_natural))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers by their value."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
