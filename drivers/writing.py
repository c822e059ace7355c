"""Writing recordings: what a writer is, a file that has its name only when whole, and the writer for a name."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import BinaryIO, Protocol, Self

import drivers.recordings
from drivers.source import SourceInfo
from nire.errors import ConfigError, SourceError
from nire.types import Geometry, SourcePacket

_log = logging.getLogger(__name__)


class Writer(Protocol):
    """Writes packets in the order in which a source yields them; leaving finishes the file.

    The module of a format that can be written has `SUFFIX` and `create_writer(path, geometry, source)`.
    """

    lost: dict[str, int]
    """What the format has no place for, in words, and how often it was met: "gaps" -> 3."""

    def write(self, packet: SourcePacket) -> None:
        """Append a packet.

        Raises:
            SourceError: the disk is full or went away.
        """
        ...

    def __enter__(self) -> Self:
        """Nothing to do; the file is open."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file; after an error (Ctrl-C is none) leave the `.part`."""
        ...

    def discard(self) -> None:
        """Stop without finishing and remove the `.part`; a file that is finished stays."""
        ...


def part_of(path: Path) -> Path:
    """Name a file while it is being written."""
    return path.with_name(path.name + ".part")


def _set_aside(part: Path, path: Path) -> None:
    """Give what a crash left of a file (`NAME.nire.part`) a name of its own: `NAME-left-1.nire.part`."""
    if not part.is_file() or not part.stat().st_size:
        return
    names = (part_of(path.with_stem(f"{path.stem}-left-{n}")) for n in itertools.count(1))
    left = next(name for name in names if not name.exists())
    part.rename(left)
    _log.warning("%s was there already, left by a crash: it is kept as %s", part, left)


class PartFile:
    """A file under a temporary name (`NAME.part`) until it is whole."""

    def __init__(self, path: str | Path) -> None:
        """Create it. What a crash left under the temporary name stays, under another one.

        Args:
            path: final name; an existing file is replaced when the new one is whole.

        Raises:
            SourceError: the file cannot be made.
        """
        self.path = Path(path)
        if self.path.is_dir():
            raise SourceError(f"{self.path} is a folder, expected a file to write: name one in it")
        self.part = part_of(self.path)
        try:
            _set_aside(self.part, self.path)
            self.file: BinaryIO = open(self.part, "w+b")  # noqa: SIM115 - closed by finish() and abandon()
        except OSError as error:
            raise SourceError(f"cannot write the recording {self.part}: {error.strerror}") from error

    def write(self, *pieces: bytes | memoryview) -> None:
        """Append bytes.

        Raises:
            SourceError: the disk is full or went away.
        """
        try:
            for piece in pieces:
                self.file.write(piece)
        except OSError as error:
            raise SourceError(f"cannot write the recording {self.part}: {error.strerror}") from error

    def flush(self) -> None:
        """Let what was written leave this process.

        Raises:
            SourceError: the disk is full or went away.
        """
        try:
            self.file.flush()
        except OSError as error:
            raise SourceError(f"cannot write the recording {self.part}: {error.strerror}") from error

    def write_at(self, position: int, data: bytes) -> None:
        """Overwrite bytes and return to the end.

        Raises:
            SourceError: the disk went away.
        """
        self.file.seek(position)
        self.write(data)
        self.file.seek(0, os.SEEK_END)

    def finish(self) -> None:
        """Give the file its name; safe to call twice.

        Raises:
            SourceError: the disk is full or went away.
        """
        if self.file.closed:
            return
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            os.replace(self.part, self.path)
        except OSError as error:
            raise SourceError(f"cannot finish the recording {self.path}: {error.strerror}") from error

    def abandon(self) -> None:
        """Stop without finishing: the `.part` file stays."""
        self.file.close()


class FileWriter:
    """What the writers of all formats share: the file and its end, and the count of what the format has no place for.

    Attributes:
        lost: as in `Writer`.
    """

    def __init__(self, path: str | Path) -> None:
        """Create the file.

        Args:
            path: final name; an existing file is replaced when the new one is whole.

        Raises:
            SourceError: the file cannot be made.
        """
        self.lost: dict[str, int] = {}
        self._output = PartFile(path)

    def close(self) -> None:
        """Finish the file and give it its name; safe to call twice.

        Raises:
            SourceError: the disk is full or went away.
        """
        if self._output.file.closed:
            return
        self._complete()
        self._output.finish()

    def abandon(self) -> None:
        """Stop without finishing: the `.part` file stays, readable as far as its format allows."""
        self._output.abandon()

    def discard(self) -> None:
        """Stop without finishing and remove the `.part` file; a file that is finished stays."""
        self._output.part.unlink(missing_ok=True)
        self.abandon()

    def __enter__(self) -> Self:
        """Nothing to do; the file is open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file; after an error (Ctrl-C is none) leave the `.part`."""
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()
        else:
            self.abandon()

    def _complete(self) -> None:
        """Write what stands at the end of a whole file."""
        raise NotImplementedError

    def _count(self, met: bool, what: str) -> None:
        if met:
            self.lost[what] = self.lost.get(what, 0) + 1


def writable() -> dict[str, ModuleType]:
    """The formats that can be written: suffix -> module. Packages that only writing needs are not imported."""
    modules = (
        importlib.import_module(f"drivers.recordings.{module.name}")
        for module in pkgutil.iter_modules(drivers.recordings.__path__)
    )
    return {str(module.SUFFIX): module for module in modules if hasattr(module, "create_writer")}


def writer_for(path: str | Path) -> ModuleType:
    """Find the format to write by a file's suffix, before any work is done.

    Returns:
        Its module; `create_writer(path, geometry, source)` begins the file.

    Raises:
        ConfigError: no format has that suffix; the message names those that are written.
    """
    formats, suffix = writable(), Path(path).suffix.lower()
    if suffix not in formats:
        raise ConfigError(
            f"{path}: the suffix {suffix!r} names no format that is written; "
            f"expected one of {', '.join(sorted(formats))}"
        )
    return formats[suffix]


@contextlib.contextmanager
def whole_or_nothing(writer: Writer) -> Iterator[Writer]:
    """Write what can be written again: finish the file as the writer does, and leave no `.part` after an error."""
    try:
        with writer:
            yield writer
    except BaseException:
        writer.discard()
        raise


def begin_writing(path: str | Path, geometry: Geometry, source: SourceInfo) -> Writer:
    """Begin a recording of the format that the suffix names.

    Args:
        path: final name; the file is `NAME.part` until it is whole.
        geometry: of the sensor.
        source: what is recorded.

    Raises:
        ConfigError: no format has that suffix.
        SdkMissing: the format needs a package that is not installed.
        SourceError: the file cannot be made.
    """
    writer: Writer = writer_for(path).create_writer(Path(path), geometry, source)
    return writer
