"""A frame camera that OpenCV opens: USB (V4L2) and whatever else its `VideoCapture` knows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.cameras.hybrid.frame_cameras import CameraInfo, CapturedFrame
from drivers.settings import LARGEST_PX, require_range
from nire.errors import DeviceLost, DeviceNotFound, SourceError

_FAILURES = 3  # reads in a row that give nothing


def open_camera(
    device: int | str = 0,
    *,
    width: int = 0,
    height: int = 0,
    rate_hz: float = 0.0,
    exposure: float | None = None,
    gray: bool = False,
) -> OpenCvCamera:
    """Prepare a camera.

    Args:
        device: number of the camera, or a path or address that OpenCV opens.
        width, height: wanted size, pixels; 0 = the camera's own.
        rate_hz: wanted frames a second; 0 = the camera's own.
        exposure: fixed exposure in the camera's own unit (V4L2: 100 us); None = automatic. Long exposures in the
            dark make a camera slower; fix it where the rate matters.
        gray: deliver one channel.

    Raises:
        ConfigError: a number is out of range.
    """
    require_range("opencv", "width", width, 0, LARGEST_PX, "px")
    require_range("opencv", "height", height, 0, LARGEST_PX, "px")
    require_range("opencv", "rate_hz", rate_hz, 0, 100_000, "Hz")
    return OpenCvCamera(device, (width, height), rate_hz, exposure, gray=gray)


class OpenCvCamera:
    """The camera. Its frames are stamped by V4L2 where that says when they were taken, else when they arrived."""

    def __init__(
        self, device: int | str, size: tuple[int, int], rate_hz: float, exposure: float | None, *, gray: bool
    ) -> None:
        """See `open_camera`."""
        self._device = device
        self._size = size
        self._rate_hz = rate_hz
        self._exposure = exposure
        self._gray = gray
        self._capture: cv2.VideoCapture | None = None
        self._info: CameraInfo | None = None

    @property
    def info(self) -> CameraInfo:
        """Size and name; complete once entered."""
        if self._info is None:
            raise SourceError(f"the camera {self._device} is not open: use it in a with statement")
        return self._info

    def __enter__(self) -> Self:
        """Open the camera and take one image, because what a camera promises is not always what it sends.

        Raises:
            DeviceNotFound: it cannot be opened, or gives no image.
        """
        capture = cv2.VideoCapture(self._device)
        for what, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, self._size[0]),
            (cv2.CAP_PROP_FRAME_HEIGHT, self._size[1]),
            (cv2.CAP_PROP_FPS, self._rate_hz),
        ):
            if value:
                capture.set(what, value)
        if self._exposure is not None:
            capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, 1)  # V4L2: manual
            capture.set(cv2.CAP_PROP_EXPOSURE, self._exposure)
        good, image = capture.read() if capture.isOpened() else (False, None)
        if not good or image is None:
            capture.release()
            raise DeviceNotFound(
                f"OpenCV cannot take an image from the camera {self._device!r}. Is it connected, is another program "
                "using it, may this user read /dev/video*? source.settings.frames.device chooses another one"
            )
        height, width, channels = self._pixels(image).shape
        self._capture = capture
        self._info = CameraInfo(f"camera {self._device}", width, height, channels, live=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the camera go."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()

    def __iter__(self) -> Iterator[CapturedFrame | None]:
        """Yield frames as they come, and None for a read that gave nothing.

        Raises:
            DeviceLost: several reads in a row gave nothing.
        """
        index = failures = 0
        while (capture := self._capture) is not None:
            good, image = capture.read()
            now_ns = time.monotonic_ns()
            failures = 0 if good else failures + 1
            if failures >= _FAILURES and self._capture is not None:
                raise DeviceLost(f"the camera {self._device!r} sends no images any more")
            if not good or image is None:
                yield None
                continue
            # V4L2 gives the driver's own stamp in milliseconds; other ways in give 0, or a count.
            stamped_ms = float(capture.get(cv2.CAP_PROP_POS_MSEC))
            time_us = stamped_ms * 1000 if stamped_ms > 0 else now_ns / 1000
            yield CapturedFrame(index, self._pixels(image), time_us, received_ns=now_ns)
            index += 1

    def _pixels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if image.ndim == 2 or image.shape[2] == 1:
            return np.ascontiguousarray(image.reshape(*image.shape[:2], 1))
        if self._gray:
            return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)[..., None]
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
