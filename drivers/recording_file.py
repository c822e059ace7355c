"""What every reader of recordings shares: it looks at its file when it is entered, and knows then what is in it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from drivers.source import SourceInfo
from nire.errors import SourceError


class RecordingFile:
    """A recording on disk as a source; a format says what it sees in `_look`, and yields packets in `__iter__`.

    Attributes:
        path: of the file, or of the folder of files.
    """

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
        try:
            self._info = self._look()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Let go of what is held between iterations; safe to call twice. Most formats hold nothing."""

    def _look(self) -> SourceInfo:
        raise NotImplementedError
