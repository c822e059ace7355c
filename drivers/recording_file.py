"""What every reader of recordings shares: it looks at its file when it is entered, and knows then what is in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from drivers.probe import what_happens
from drivers.source import SourceInfo
from nire.errors import NireError, RecordingDamaged, SourceError
from nire.types import SourcePacket

_LONGEST = 300  # characters of a foreign message
_log = logging.getLogger(__name__)


class RecordingFile:
    """A recording on disk as a source; a format says what it sees in `_look`, and yields packets in `_play`.

    Damaged bytes make parsers and libraries raise whatever they like. Here it becomes `RecordingDamaged`, so that a
    format need not foresee it: what it raises itself says more, such as a position.

    Attributes:
        path: of the file, or of the folder of files.
        may_crash: dotted name of the driver, where a library in C reads its files: a child process tries them first.
        is_tried_first: False within that process.
    """

    may_crash: ClassVar[str] = ""
    is_tried_first: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is read."""
        self.path = path
        self._info: SourceInfo | None = None

    @property
    def info(self) -> SourceInfo:
        """What the recording says of itself; known once entered.

        Raises:
            SourceError: it has not been entered.
        """
        if self._info is None:
            raise SourceError(f"{self.path} is not open: use it in a with statement")
        return self._info

    def __enter__(self) -> Self:
        """Look at the recording; what `_look` raises says what is wrong with it, and nothing stays open then."""
        self._try_first()
        try:
            self._info = self._look()
        except NireError:
            self.close()
            raise
        except Exception as error:
            self.close()
            _log.debug("%s cannot be opened", self.path, exc_info=True)
            raise RecordingDamaged(f"{self.path} cannot be read: {_words(error)}", 0) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield packets; what `_play` raises says what is wrong, after everything before it.

        Raises:
            SourceError: it is not entered, or has what is not read.
            RecordingDamaged: it cannot be read further.
        """
        _ = self.info
        return self._guarded()

    def _guarded(self) -> Iterator[SourcePacket]:
        packets = 0
        try:
            for packet in self._play():
                yield packet
                packets += 1
        except NireError:
            raise
        except Exception as error:
            _log.debug("%s cannot be read further", self.path, exc_info=True)
            raise RecordingDamaged(
                f"{self.path} cannot be read behind its packet {packets}: {_words(error)}; all before was delivered",
                packets,
            ) from error

    def close(self) -> None:
        """Let go of what is held between iterations; safe to call twice. Most formats hold nothing."""

    def _try_first(self) -> None:
        is_tried = self.may_crash and self.is_tried_first and self.path.is_file()
        why = what_happens(self.may_crash, self.path) if is_tried else ""
        if why:
            raise RecordingDamaged(f"{self.path} cannot be read: {why}", 0)

    def _look(self) -> SourceInfo:
        raise NotImplementedError

    def _play(self) -> Iterator[SourcePacket]:
        raise NotImplementedError


def _words(error: Exception) -> str:
    """Say what was raised, in one line of bounded length."""
    text = " ".join(str(error).split())[:_LONGEST]
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    return f"{text} ({type(error).__name__})" if text else type(error).__name__
