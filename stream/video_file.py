"""A video file, written image by image: by PyAV where it is installed, else by OpenCV."""

from __future__ import annotations

import importlib
import importlib.util
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.install import pip_install
from stream.disk import refused

# VP9 plays in browsers and players and is free of patents. By default it takes ten times as long as with these.
_VP9 = {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "lag-in-frames": "0", "crf": "24", "b": "0", "g": "30"}
# In pieces that each stand alone, so that a file whose writer was killed plays to the last of them.
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}


class VideoFile(Protocol):
    """Takes images of one size."""

    def append(self, pixels: NDArray[np.uint8]) -> None:
        """Append uint8 [H, W, 3] (RGB), H and W even.

        Raises:
            ConfigError: the disk takes no more.
        """
        ...

    def close(self) -> None:
        """Finish the file.

        Raises:
            ConfigError: the disk takes no more.
        """
        ...


def has_fast_encoder() -> bool:
    """Tell whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def open_video(path: Path, size: tuple[int, int], rate_hz: float) -> VideoFile:
    """Begin a video.

    Args:
        path: of the file, NAME.mp4; one that exists is replaced.
        size: (height, width), even.
        rate_hz: images a second.

    Raises:
        ConfigError: it cannot be written.
    """
    return (_PyAv if has_fast_encoder() else _OpenCv)(path, size, rate_hz)


class _PyAv:
    def __init__(self, path: Path, size: tuple[int, int], rate_hz: float) -> None:
        av: Any = importlib.import_module("av")  # of an extra, so it may not be there
        self._path = path
        self._frame_of = av.VideoFrame.from_ndarray
        try:
            self._container: Any = av.open(str(path), "w", format="mp4", options=_FRAGMENTS)
            rate = Fraction(rate_hz).limit_denominator(1000)
            self._stream = self._container.add_stream("libvpx-vp9", rate=rate, options=_VP9)
            self._stream.height, self._stream.width = size
            self._stream.pix_fmt = "yuv420p"
        except OSError as error:
            raise refused(error, f"the video {path}") from error

    def append(self, pixels: NDArray[np.uint8]) -> None:
        self._encode(self._frame_of(pixels, format="rgb24"))

    def close(self) -> None:
        try:
            self._encode(None)
            self._container.close()
        except OSError as error:
            raise refused(error, f"the video {self._path}") from error

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except OSError as error:
            raise refused(error, f"the video {self._path}") from error


class _OpenCv:
    """MPEG-4 Part 2: the one encoder of OpenCV's packages that is fast; players know it, browsers do not."""

    def __init__(self, path: Path, size: tuple[int, int], rate_hz: float) -> None:
        self._path = path
        self._count = 0
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate_hz, size[::-1], True)
        if not self._writer.isOpened():
            raise ConfigError(
                f"cannot write the video {path}. Choose another place, or install PyAV: {pip_install('video')}"
            )

    def append(self, pixels: NDArray[np.uint8]) -> None:
        self._writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        self._count += 1

    def close(self) -> None:
        self._writer.release()
        # It says nothing of a full disk: what can be read again tells.
        written = cv2.VideoCapture(str(self._path))
        count = round(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
        written.release()
        if count < self._count:
            raise ConfigError(
                f"the video {self._path} holds {count} of {self._count} images: is the disk full? Free some room there"
            )
