"""A video, `video.mp4`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.types import ExposedFrame


def create(out: Path, *, in_order: bool) -> Video:
    """Write into the run's folder."""
    return Video(out / "video.mp4", in_order=in_order)


class Video:
    """An mp4 (VP9: plays in browsers and players, and its encoder is free of patents and copyleft)."""

    def __init__(self, path: Path, rate_hz: float = 30.0, *, in_order: bool = True) -> None:
        """Prepare; the file is made with the first image.

        Args:
            path: of the file.
            rate_hz: images a second.
            in_order: frames come in the order of their indices; otherwise they are kept, compressed, until the end.
        """
        self._in_order = in_order
        self._waiting: dict[int, NDArray[np.uint8]] = {}
        self._path = path
        self._rate_hz = rate_hz
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits, in the order of the indices, and close the file."""
        for index in sorted(self._waiting):
            self.append(np.asarray(cv2.imdecode(self._waiting[index], cv2.IMREAD_UNCHANGED), np.uint8))
        if self._writer is not None:
            self._writer.release()

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Append an exposed frame; where they do not come in order, the last of an index counts."""
        if self._in_order:
            self.append(frame.pixels)
        else:
            self._waiting[index] = np.asarray(cv2.imencode(".png", frame.pixels)[1], np.uint8)

    def append(self, pixels: NDArray[np.uint8]) -> None:
        """Append uint8 [H, W] or [H, W, C], gray or RGB; odd sizes lose a row or column, as the format wants."""
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
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


def _bgr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    code = cv2.COLOR_GRAY2BGR if pixels.shape[2] == 1 else cv2.COLOR_RGB2BGR
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code), np.uint8)
