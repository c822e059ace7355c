"""PNG images, and a line about each: `frames/%06d.png` and `frames.jsonl`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import TracebackType
from typing import Self

from nire.types import ExposedFrame
from stream.disk import write_whole, writing
from stream.images import write_png
from stream.run_folder import FRAMES, LINES


def create(out: Path, *, in_order: bool) -> FrameFolder:
    """Write into the run's folder."""
    return FrameFolder(out, in_order=in_order)


class FrameFolder:
    """Writes `frames/%06d.png` and, as soon as each is there, its line in `frames.jsonl`.

    Every line is true at any moment: the image it names is whole. Lines are in the order of the indices once the run is
    whole; until then they are in the order of the answers, and the last one of an index counts.
    """

    def __init__(self, folder: Path, *, in_order: bool = True) -> None:
        """Make the folder and an empty `frames.jsonl`.

        Args:
            folder: of the run.
            in_order: frames come in the order of their indices, each once.

        Raises:
            ConfigError: the folder cannot be made or written.
        """
        self._folder = folder
        self._in_order = in_order
        self.files: set[int] = set()
        """Indices of the images written."""
        self._lines: dict[int, str] = {}
        with writing(f"to {folder}"):
            (folder / FRAMES).mkdir(parents=True, exist_ok=True)
            self._index = (folder / LINES).open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the lines in order, unless something has gone wrong, and close."""
        with contextlib.suppress(OSError):  # a full disk, told by the line that it did not take
            self._index.close()
        if kind is None and not self._in_order:
            write_whole(self._folder / LINES, "".join(self._lines[index] for index in sorted(self._lines)))

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Write an image and its line.

        Args:
            frame: exposed frame.
            index: names the file.

        Raises:
            ConfigError: the disk takes no more.
        """
        name = f"{FRAMES}/{index:06d}.png"
        write_png(self._folder / name, frame.pixels)
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
        if frame.wall_ns is not None:
            record["wall_ns"] = frame.wall_ns
        if frame.wall_uncertainty_us is not None:
            record["wall_uncertainty_us"] = frame.wall_uncertainty_us
        line = json.dumps(record) + "\n"
        with writing(self._folder / LINES):
            self._index.write(line)
            self._index.flush()  # what is killed has said what it had
        self.files.add(index)
        if not self._in_order:
            self._lines[index] = line


def _plain(value: float) -> float | int:
    """Whole numbers as integers: exact at any size, and easier on the eye."""
    return int(value) if value.is_integer() else value
