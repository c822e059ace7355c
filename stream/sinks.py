"""Where exposed frames go when nobody subscribes: PNG files with `frames.jsonl`, and mp4."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.types import ExposedFrame

log = logging.getLogger(__name__)


class FrameFolder:
    """Writes `frames/%06d.png` and `frames.jsonl` (one object a line, in the order of the indices)."""

    def __init__(self, folder: Path) -> None:
        """Make the folder; images of an earlier run there are removed, because a mix of two runs misleads.

        Raises:
            ConfigError: the folder cannot be made or written.
        """
        self._folder = folder
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

    def write(self, frame: ExposedFrame, *, index: int, later: bool = False) -> None:
        """Write an image and its line.

        Args:
            frame: exposed frame.
            index: names the file.
            later: the line is kept until the folder closes, because frames do not come in order or may be
                written again.
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
        if later:
            self._records[index] = record
        else:
            self._index.write(json.dumps(record) + "\n")


class Video:
    """An mp4 (VP9: plays in browsers and players, and its encoder is free of patents and copyleft)."""

    def __init__(self, path: Path, rate_hz: float = 30.0) -> None:
        """Prepare; the file is made with the first image."""
        self._path = path
        self._rate_hz = rate_hz
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.release()

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Append uint8 [H, W, C], gray or RGB; odd sizes lose a row or column, as the format wants."""
        height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
        if self._writer is None:
            self._writer = cv2.VideoWriter(
                str(self._path), cv2.VideoWriter.fourcc(*"vp09"), self._rate_hz, (width, height), True
            )
            if not self._writer.isOpened():
                raise ConfigError(
                    f"cannot write the video {self._path}: this OpenCV has no VP9 encoder or the folder is missing"
                )
        self._writer.write(_bgr(pixels[:height, :width]))


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write uint8 [H, W, C], gray or RGB, as PNG, whatever the suffix.

    Raises:
        ConfigError: the file cannot be written.
    """
    image = pixels[..., 0] if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    # Level 1 is four times faster than the default and costs a tenth in size.
    _, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise ConfigError(f"cannot write the image {path}: {error.strerror}. Choose another place") from error


def _bgr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    code = cv2.COLOR_GRAY2BGR if pixels.shape[2] == 1 else cv2.COLOR_RGB2BGR
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code), np.uint8)


def _plain(value: float) -> float | int:
    """Whole numbers as integers: exact at any size, and easier on the eye."""
    return int(value) if value.is_integer() else value
