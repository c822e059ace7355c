"""Recordings of many files: a folder or a zip archive as names that can be opened, and images decoded."""

from __future__ import annotations

import contextlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.pixels import Depth, as_rgb
from nire.errors import RecordingDamaged, SourceError

UNREADABLE_ARCHIVE = (
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, OverflowError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
"""What damaged archives and names make zipfile, zlib and the file system raise."""
_MOST_BYTES, _PIECE = 1 << 30, 1 << 20
_MOST_PIXELS, _PIXELS_OF_A_BYTE = 1 << 27, 8192  # that one byte of an image can stand for, at the very most
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..\x08(..)(..)", re.DOTALL)
_LEARNED = 8  # images by which the depth of all is told
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
                return cls(path, in_natural_order(p.relative_to(path).as_posix() for p in found))
            with zipfile.ZipFile(path) as archive:
                return cls(path, in_natural_order(name for name in archive.namelist() if not name.endswith("/")))
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
        data = bytearray()
        try:
            with self.open(name) as file:
                # In pieces: a file makes room for all that is asked for before it knows how little it has.
                while len(data) <= _MOST_BYTES and (piece := file.read(_PIECE)):
                    data += piece
        except (SourceError, *UNREADABLE_ARCHIVE) as error:
            raise RecordingDamaged(f"{self.path}: {name} cannot be read: {error}") from error
        if len(data) > _MOST_BYTES:
            raise RecordingDamaged(f"{self.path}: {name} unpacks to more than {_MOST_BYTES} bytes")
        return bytes(data)

    def find(self, *names: str) -> str | None:
        """The first file of one of these names that lies least deep; None where there is none."""
        for wanted in names:
            found = [name for name in self.names if name.rpartition("/")[2] == wanted]
            if found:
                return min(found, key=lambda name: name.count("/"))
        return None

    def image(self, name: str, depth: Depth) -> NDArray[np.uint8]:
        """Read an image: uint8 [H, W, 1] or [H, W, 3] RGB.

        Args:
            name: of the file.
            depth: of all images of the recording.

        Raises:
            RecordingDamaged: it is missing or cannot be decoded.
            SourceError: its pixels are of a type that is not read.
        """
        try:
            return decode_image(self.read(name), depth, path=f"the image {name} of {self.path}")
        except ValueError as error:
            raise RecordingDamaged(f"{self.path}: the image {name} cannot be read: {error}") from error

    def learn(self, names: Sequence[str], depth: Depth) -> None:
        """Let a depth see some images, spread over all of them.

        Raises:
            SourceError: their values do not tell how many bits they use.
        """
        for name in names[:: max(1, len(names) // _LEARNED)]:
            with contextlib.suppress(RecordingDamaged, ValueError):
                image = raw_image(self.read(name))
                if image.dtype == np.uint8:
                    return  # as all others
                depth.see(image)
        depth.decide(path=self.path)


def raw_image(data: bytes) -> NDArray[Any]:
    """Decode PNG, JPEG and what else OpenCV knows, as it is stored: [H, W] or [H, W, C], colours as BGR.

    Raises:
        ValueError: it is no image.
    """
    width, height = _claimed_size(data)
    if width * height > min(_MOST_PIXELS, _PIXELS_OF_A_BYTE * len(data)):
        raise ValueError(f"{len(data)} bytes claim to be an image of {width} x {height}")
    if data.startswith(_PNG) and not _chunks_fit(data):
        raise ValueError(f"a part of its {len(data)} bytes claims more than is left of them")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:
        raise ValueError(f"{len(data)} bytes are no image: {error}") from error
    if image is None:
        raise ValueError(f"{len(data)} bytes are no image that OpenCV decodes")
    return np.asarray(image)


def _claimed_size(data: bytes) -> tuple[int, int]:
    """Width and height that the head of a PNG, JPEG or BMP claims; (0, 0) for others. Decoders believe them at once."""
    if data.startswith(_PNG) and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    if data.startswith(b"BM") and len(data) >= 26:
        width, height = struct.unpack_from("<ii", data, 18)
        return abs(width), abs(height)
    found = _JPEG_FRAME.search(data) if data.startswith(b"\xff\xd8") else None
    return (int.from_bytes(found[2], "big"), int.from_bytes(found[1], "big")) if found else (0, 0)


def _chunks_fit(data: bytes) -> bool:
    """Tell whether the parts of a PNG lie within its bytes."""
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND":
            break
    return at <= len(data)


def decode_image(data: bytes, depth: Depth, *, path: object) -> NDArray[np.uint8]:
    """Decode an image: uint8 [H, W, 1] or [H, W, 3] RGB.

    Args:
        data: of the file.
        depth: of all images of the recording.
        path: for messages.

    Raises:
        ValueError: it is no image.
        SourceError: its pixels are of a type that is not read.
    """
    return as_rgb(depth.to_8(raw_image(data), path=path), "bgr")


def in_natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names by the numbers in them: image2 before image10."""
    return tuple(sorted(names, key=_natural))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers by their value."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
