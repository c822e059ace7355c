"""Where exposed frames go when nobody subscribes: PNG files with `frames.jsonl`, and mp4."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.types import ExposedFrame, Frame

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


def save(
    frames: ExposedFrame | Frame | NDArray[np.uint8] | Iterable[ExposedFrame | Frame | NDArray[np.uint8]],
    path: str | Path,
    *,
    rate_hz: float = 30.0,
) -> int:
    """Write images where a path says: NAME.png one image, NAME.mp4 a video, anything without a suffix a folder.

    Args:
        frames: one or many; frames, or pixels uint8 [H, W], [H, W, 1] or [H, W, 3] (RGB). They are taken one by one.
        path: folders are made. In a folder the images are 000000.png, 000001.png, ...; other files there stay.
        rate_hz: images a second of a video.

    Returns:
        How many images were written.

    Raises:
        ConfigError: nothing to write, several images for one PNG, no images, or a place that cannot be written.
    """
    path = Path(path)
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix not in ("", ".png", ".mp4"):
        raise ConfigError(f"cannot save as {path}: expected NAME.png for one image, NAME.mp4, or a folder")
    try:
        (path if suffix == "" else path.parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {path}: {error.strerror}. Choose another place") from error
    count = 0
    with Video(path, rate_hz) as video:
        for pixels in _images(frames):
            if suffix == ".mp4":
                video.write(pixels)
            elif suffix == ".png" and count:
                raise ConfigError(f"{path} holds one image and there are more: name a folder, or NAME.mp4")
            else:
                write_png(path if suffix else path / f"{count:06d}.png", pixels)
            count += 1
    if not count:
        raise ConfigError(f"there is no image to save as {path}")
    return count


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


def _images(frames: Any) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 [H, W, C] for each image of what `save` takes."""
    if isinstance(frames, ExposedFrame | Frame):
        frames = frames.pixels
    if not isinstance(frames, np.ndarray):
        for frame in frames:
            yield from _images(frame)
        return
    is_one = frames.ndim == 2 or (frames.ndim == 3 and frames.shape[2] in (1, 3))
    if not is_one and frames.ndim in (3, 4):
        for image in frames:
            yield from _images(image)
        return
    if not is_one or frames.dtype != np.uint8:
        raise ConfigError(
            f"{frames.dtype} {list(frames.shape)} is no image; expected uint8 [H, W], [H, W, 1] or [H, W, 3]"
        )
    yield frames if frames.ndim == 3 else frames[..., None]


def _bgr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    code = cv2.COLOR_GRAY2BGR if pixels.shape[2] == 1 else cv2.COLOR_RGB2BGR
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code), np.uint8)


def _plain(value: float) -> float | int:
    """Whole numbers as integers: exact at any size, and easier on the eye."""
    return int(value) if value.is_integer() else value
