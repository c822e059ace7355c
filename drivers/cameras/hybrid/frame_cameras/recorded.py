"""A recording of a frame camera: a folder of images or a video, with a table of the frames' own times."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.cameras.hybrid.frame_cameras import CameraInfo, CapturedFrame
from nire.colour import PATTERNS, BayerPattern, demosaiced
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import Transfer

_IMAGES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".pgm", ".ppm")


@dataclass(frozen=True, slots=True)
class _Row:
    """One frame of the table: `file` is "" for a video."""

    index: int
    time_us: float
    exposure_us: float | None
    file: str


def open_camera(
    path: str | Path, *, times: str | Path = "", transfer: Transfer = "srgb", bayer: BayerPattern | str = "none"
) -> RecordedFrames:
    """Prepare a recording of frames.

    Args:
        path: a folder of images, or a video.
        times: a CSV file with a heading and the column `time_us`, and if there are any `file`, `index` (the camera's
            own count) and `exposure_us`; "" = `times.csv` in the folder, or beside the video as `NAME.times.csv`.
            Images without the column `file` are taken in the order of their names. A video may do without.
        transfer: "linear" where pixel values are proportional to light (raw images), else "srgb".
        bayer: "RGGB", "BGGR", "GRBG" or "GBRG" for images that are a mosaic; "none".

    Raises:
        ConfigError: another word for `transfer` or `bayer`.
    """
    if transfer not in ("linear", "srgb"):
        raise ConfigError(f"recorded frames: transfer = {transfer!r}, expected 'linear' or 'srgb'")
    if bayer not in ("none", *PATTERNS):
        raise ConfigError(f"recorded frames: bayer = {bayer!r}, expected none, {', '.join(PATTERNS)}")
    return RecordedFrames(Path(path), Path(times) if times else None, transfer, bayer)


class RecordedFrames:
    """The camera; each iteration begins at the first frame, with one image in memory."""

    def __init__(self, path: Path, times: Path | None, transfer: Transfer, bayer: str) -> None:
        """See `open_camera`."""
        self._path = path
        self._times = times
        self._transfer = transfer
        self._bayer = bayer
        self._rows: list[_Row] | None = None
        self._info: CameraInfo | None = None

    @property
    def info(self) -> CameraInfo:
        """Size and name; complete once entered."""
        if self._info is None:
            raise SourceError(f"{self._path} is not open: use it in a with statement")
        return self._info

    def __enter__(self) -> Self:
        """Read the table and look at the first image.

        Raises:
            SourceError: no such folder or video, no images, or no table.
            RecordingDamaged: the table or the first image cannot be read.
        """
        if not self._path.exists():
            raise SourceError(f"there is no folder or video {self._path}: source.settings.frames.path names it")
        self._rows = self._table()
        first = next(self._images(), None)
        if first is None:
            raise SourceError(f"{self._path} holds no frame that can be read")
        height, width, channels = first.shape
        self._info = CameraInfo(self._path.name, width, height, channels, live=False, transfer=self._transfer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held between iterations."""

    def __iter__(self) -> Iterator[CapturedFrame]:
        """Yield frames.

        Raises:
            RecordingDamaged: an image is missing, broken or of another size; all before it was delivered.
        """
        info = self.info
        rows = self._rows
        for position, pixels in enumerate(self._images()):
            row = self._row_of(position, rows)
            if row is None:
                return
            if pixels.shape != (info.height, info.width, info.channels):
                raise RecordingDamaged(
                    f"{self._path}: frame {position} is {pixels.shape[1]} x {pixels.shape[0]} x {pixels.shape[2]}, the "
                    f"first one {info.width} x {info.height} x {info.channels}",
                    position,
                )
            yield CapturedFrame(row.index, pixels, row.time_us, row.exposure_us)

    def _row_of(self, position: int, rows: list[_Row] | None) -> _Row | None:
        if rows is None:
            return _Row(position, position * 1e6 / self._rate_hz(), None, "")
        return rows[position] if position < len(rows) else None

    def _table(self) -> list[_Row] | None:
        is_folder = self._path.is_dir()
        beside = self._path / "times.csv" if is_folder else self._path.with_name(self._path.name + ".times.csv")
        file = self._times or beside
        if not file.exists():
            if is_folder or self._times is not None:
                raise SourceError(
                    f"there is no table {file}: a CSV file with the column time_us, a line for each frame, tells when "
                    "the frames were taken by the frame camera's own clock"
                )
            return None
        rows = _read_table(file)
        if is_folder and not all(row.file for row in rows):
            names = sorted(item.name for item in self._path.iterdir() if item.suffix.lower() in _IMAGES)
            if len(names) != len(rows):
                raise SourceError(f"{self._path} holds {len(names)} images, its table {file.name} {len(rows)} lines")
            rows = [_Row(r.index, r.time_us, r.exposure_us, name) for r, name in zip(rows, names, strict=True)]
        return rows

    def _images(self) -> Iterator[NDArray[np.uint8]]:
        if self._path.is_dir():
            for position, row in enumerate(self._rows or ()):
                image = cv2.imread(str(self._path / row.file), cv2.IMREAD_ANYCOLOR)
                if image is None:
                    raise RecordingDamaged(f"{self._path / row.file} cannot be read as an image", position)
                yield self._pixels(image)
            return
        video = self._video()
        try:
            while True:
                good, image = video.read()
                if not good:
                    return
                yield self._pixels(image)
        finally:
            video.release()

    def _pixels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._bayer != "none":
            plane = image if image.ndim == 2 else image[..., 0]
            return demosaiced(plane, self._bayer)  # type: ignore[arg-type]  # checked when it was set
        if image.ndim == 2:
            return np.ascontiguousarray(image[..., None])
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

    def _video(self) -> cv2.VideoCapture:
        video = cv2.VideoCapture(str(self._path))
        if not video.isOpened():
            raise SourceError(f"{self._path} is no video that OpenCV can read, and no folder of images")
        return video

    def _rate_hz(self) -> float:
        video = self._video()
        rate_hz = float(video.get(cv2.CAP_PROP_FPS))
        video.release()
        return rate_hz if rate_hz > 0 else 30.0


def _read_table(file: Path) -> list[_Row]:
    rows: list[_Row] = []
    try:
        with open(file, encoding="utf-8", newline="") as opened:
            for count, line in enumerate(csv.DictReader(opened, skipinitialspace=True)):
                exposure = line.get("exposure_us")
                rows.append(
                    _Row(
                        int(line.get("index") or count),
                        float(line["time_us"]),
                        float(exposure) if exposure else None,
                        line.get("file") or "",
                    )
                )
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read the table {file}: {error}") from error
    except KeyError as error:
        raise RecordingDamaged(f"{file} has no column {error}: its first line names the columns") from error
    except (ValueError, TypeError) as error:
        raise RecordingDamaged(f"{file}, line {len(rows) + 2}: {error}", len(rows)) from error
    late = next((k for k in range(1, len(rows)) if rows[k].index <= rows[k - 1].index), None)
    if late is not None:
        raise RecordingDamaged(f"{file}, line {late + 2}: index {rows[late].index} does not grow", late)
    if not rows:
        raise SourceError(f"the table {file} holds no frame")
    return rows
