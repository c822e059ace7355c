"""A video of the exposed frames, `video.mp4`."""

from __future__ import annotations

import contextlib
import statistics
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.install import pip_install
from nire.types import ExposedFrame
from stream.display import Tone
from stream.video_file import VideoFile, has_fast_encoder, open_video

FILES = ("video.mp4",)
_FASTEST_HZ = 60.0  # what screens show
_SLOWED_HZ = 30.0
_LOOK_AHEAD = 9


def create(out: Path, *, in_order: bool, fps: float | None = None, plain: bool = False) -> Video:
    """Write into the run's folder."""
    return Video(out / FILES[0], fps, in_order=in_order, tone=None if plain else Tone())


class Pace:
    """How fast images are to be shown: in real time where a screen can, else in slow motion.

    Attributes:
        rate_hz: images a second; None until `known`.
    """

    def __init__(self, fps: float | None = None) -> None:
        """Take `fps` where it is given, else find it from the first images."""
        self.rate_hz = fps
        self._times_us: list[float] = []

    def add(self, t_us: float) -> bool:
        """Note when an image was exposed.

        Returns:
            Whether the pace is known.
        """
        if len(self._times_us) < _LOOK_AHEAD:
            self._times_us.append(t_us)
        return self.rate_hz is not None or len(self._times_us) == _LOOK_AHEAD

    def settle(self) -> float:
        """Decide by what was seen, once for all; gives `rate_hz`."""
        if self.rate_hz is None:
            real_hz = self.real_hz
            self.rate_hz = real_hz if real_hz is not None and real_hz <= _FASTEST_HZ else _SLOWED_HZ
        return self.rate_hz

    @property
    def real_hz(self) -> float | None:
        """The rate of the exposures themselves; None where it cannot be told or they do not go forward."""
        steps_us = [b - a for a, b in zip(self._times_us, self._times_us[1:], strict=False)]
        if not steps_us or min(steps_us) <= 0:
            return None
        return 1e6 / statistics.median(steps_us)

    def text(self) -> str:
        """Say it in words: "30 images a second, 16.7 times slower than real time"."""
        rate_hz, real_hz = self.settle(), self.real_hz
        shown = f"{rate_hz:.4g} images a second"
        if real_hz is None:
            return shown
        factor = real_hz / rate_hz
        if 0.98 < factor < 1.02:
            return f"{shown}, real time"
        how = f"{factor:.3g} times slower" if factor > 1 else f"{1 / factor:.3g} times faster"
        return f"{shown}, {how} than real time"


class Video:
    """An mp4: VP9 where PyAV is installed (extra `video`), else MPEG-4 Part 2.

    VP9 plays in browsers and players, and what was written before a kill can be played.
    """

    def __init__(
        self, path: Path, fps: float | None = None, *, in_order: bool = True, tone: Tone | None = None
    ) -> None:
        """Prepare; the file is made with the first images.

        Args:
            path: of the file.
            fps: images a second; None = as they were exposed where a screen can show that, else 30.
            in_order: frames come in the order of their indices; otherwise they are kept, compressed, until the end.
            tone: makes exposed frames (`write`) visible; None = their values as they are.
        """
        self._tone = tone
        self._in_order = in_order
        self._kept: dict[int, tuple[NDArray[np.uint8], float]] = {}
        self._path = path
        self._pace = Pace(fps)
        self._first: list[NDArray[np.uint8]] = []
        self._file: VideoFile | None = None
        self._count = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits, in the order of the indices, and close the file."""
        if kind is not None:
            with contextlib.suppress(ConfigError):
                self._finish()
            return
        self._finish()

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Append an exposed frame; where they do not come in order, the last of an index counts."""
        pixels, t_us = frame.pixels, frame.shutter.mid_us
        if self._tone is not None:
            self._tone.learn(pixels, t_us)
            pixels = self._tone.shown(pixels)
        self.take(pixels, index=index, t_us=t_us)

    def take(self, pixels: NDArray[np.uint8], *, index: int, t_us: float) -> None:
        """Append an image that belongs to an exposed frame; as `write`.

        Args:
            pixels: uint8 [H, W, C].
            index: of the frame.
            t_us: device time of its exposure's middle.
        """
        if self._in_order:
            self.append(pixels, t_us)
        else:
            self._kept[index] = np.asarray(cv2.imencode(".png", _bgr(pixels))[1], np.uint8), t_us

    def append(self, pixels: NDArray[np.uint8], t_us: float = 0.0) -> None:
        """Append uint8 [H, W] or [H, W, C], gray or RGB; odd sizes lose a row or column, as the format wants.

        Args:
            pixels: as above, all of one size.
            t_us: when it was exposed, for the pace of the video.

        Raises:
            ConfigError: the file cannot be written.
        """
        pixels = _rgb(pixels)
        self._count += 1
        if not self._pace.add(t_us):
            self._first.append(pixels)
            return
        self._begin(pixels)
        self._put(pixels)

    def summary(self) -> str:
        """Tell what was written: how many images, and how fast they are shown."""
        if not self._count:
            return f"no image, so no {self._path}"
        codec = "" if has_fast_encoder() else f"; browsers play it only with {pip_install('video')}"
        return f"{self._count} images in {self._path}, {self._pace.text()}{codec}"

    def _begin(self, pixels: NDArray[np.uint8]) -> None:
        """Open the file, of this image's size, and write what has waited for the pace to be known."""
        if self._file is None:
            self._file = open_video(self._path, (pixels.shape[0], pixels.shape[1]), self._pace.settle())
            for image in self._first:
                self._put(image)
            self._first = []

    def _put(self, pixels: NDArray[np.uint8]) -> None:
        if self._file is not None:
            self._file.append(pixels)

    def _finish(self) -> None:
        for index in sorted(self._kept):
            image, t_us = self._kept[index]
            self.append(np.asarray(cv2.imdecode(image, cv2.IMREAD_COLOR_RGB), np.uint8), t_us)
        self._kept = {}
        if self._first:
            self._begin(self._first[0])
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


def _bgr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels if pixels.ndim == 2 or pixels.shape[2] == 1 else np.ascontiguousarray(pixels[..., ::-1])


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make uint8 [H, W, 3] of even height and width."""
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    pixels = np.ascontiguousarray(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2])
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8) if pixels.shape[2] == 1 else pixels
