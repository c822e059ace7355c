"""PNG images, and a line about each: `frames/%06d.png` and `frames.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nire.errors import ConfigError
from nire.types import ExposedFrame
from stream.images import write_png


def create(out: Path, *, in_order: bool) -> FrameFolder:
    """Write into the run's folder."""
    return FrameFolder(out, in_order=in_order)


class FrameFolder:
    """Writes `frames/%06d.png` and `frames.jsonl` (one object a line, in the order of the indices)."""

    def __init__(self, folder: Path, *, in_order: bool = True) -> None:
        """Make the folder; images of an earlier run there are removed, because a mix of two runs misleads.

        Args:
            folder: of the run.
            in_order: frames come in the order of their indices, each once; otherwise the lines are kept until the end.

        Raises:
            ConfigError: the folder cannot be made or written.
        """
        self._folder = folder
        self._in_order = in_order
        self.files: set[int] = set()
        """Indices of the images written."""
        self._records: dict[int, dict[str, Any]] = {}
        try:
            (folder / "frames").mkdir(parents=True, exist_ok=True)
            for old in (folder / "frames").glob("[0-9]*.png"):
                old.unlink()
            self._index = (folder / "frames.jsonl").open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write to {folder}: {error.strerror}. Choose another output folder") from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is not yet written and close."""
        for index in sorted(self._records):
            self._index.write(json.dumps(self._records[index]) + "\n")
        self._index.close()

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Write an image and its line.

        Args:
            frame: exposed frame.
            index: names the file.
        """
        name = f"frames/{index:06d}.png"
        write_png(self._folder / name, frame.pixels)
        self.files.add(index)
        record = {
            "index": index,
            "file": name,
            "tag": frame.tag,
            "t_a_us": _plain(float(frame.shutter.t_a_us.flat[0])),
            "t_b_us": _plain(float(frame.shutter.t_b_us.flat[0])),
            "row_delay_us": _plain(frame.shutter.row_delay_us),
            "window": frame.window,
            "backend": frame.backend,
        }
        if self._in_order:
            self._index.write(json.dumps(record) + "\n")
        else:
            self._records[index] = record


def _plain(value: float) -> float | int:
    """Whole numbers as integers: exact at any size, and easier on the eye."""
    return int(value) if value.is_integer() else value
