"""A video device `/dev/videoN` of the kernel module v4l2loopback: a camera for browsers, OpenCV and GStreamer."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.types import ExposedFrame

TARGET = "auto"
_VIRTUAL = Path("/sys/devices/virtual/video4linux")
# linux/videodev2.h. The union of `struct v4l2_format` is 200 bytes, aligned to 8.
_SET_FORMAT = 0xC0D05605  # VIDIOC_S_FMT
_OUTPUT, _PROGRESSIVE, _SRGB = 2, 1, 8
_YUYV = int.from_bytes(b"YUYV", "little")
_FORMAT = struct.Struct("<I4x7I172x")


def missing() -> str:
    """Tell what to install: the module makes devices without hardware behind them."""
    if _virtual():
        return ""
    return (
        "the kernel module v4l2loopback (Debian package v4l2loopback-dkms), then modprobe v4l2loopback exclusive_caps=1"
    )


def follow(target: str) -> VideoDevice:
    """Write to a device; "auto" = the first virtual one.

    Raises:
        ConfigError: it cannot be opened.
    """
    return VideoDevice(_virtual()[0] if target == "auto" else Path(target))


class VideoDevice:
    """Writes images as YUYV, which every program reads; the right column of an odd width is left out."""

    def __init__(self, device: Path) -> None:
        """Open; its format is set with the first image.

        Raises:
            ConfigError: there is no such device, or this user may not write to it.
        """
        self._device = device
        self._shape: tuple[int, ...] = ()
        try:
            self._file = os.open(device, os.O_WRONLY)
        except FileNotFoundError as error:
            there = ", ".join(map(str, _virtual())) or "none"
            raise ConfigError(f"there is no {device}; devices of v4l2loopback: {there}") from error
        except OSError as error:
            raise ConfigError(f"cannot open {device}: {error.strerror}. Is this user in the group video?") from error

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Show an image.

        Raises:
            ConfigError: the device takes no images of this kind.
        """
        image = yuyv(frame.pixels)
        try:
            if image.shape != self._shape:
                self._set_format(image)
            os.write(self._file, image.data)
        except OSError as error:
            raise ConfigError(f"{self._device} takes no images: {error.strerror}. Is it of v4l2loopback?") from error

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        os.close(self._file)

    def _set_format(self, image: NDArray[np.uint8]) -> None:
        height, width, _ = image.shape
        wanted = _FORMAT.pack(_OUTPUT, width, height, _YUYV, _PROGRESSIVE, 2 * width, image.size, _SRGB)
        fcntl.ioctl(self._file, _SET_FORMAT, wanted)
        self._shape = image.shape


def yuyv(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert to YUYV (BT.601, video range): uint8 [H, W, 1 or 3] to uint8 [H, W even, 2]."""
    even = np.ascontiguousarray(pixels[:, : pixels.shape[1] // 2 * 2])
    rgb = cv2.cvtColor(even, cv2.COLOR_GRAY2RGB) if even.shape[2] == 1 else even
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_YUY2)
    return np.ascontiguousarray(planes)


def _virtual() -> list[Path]:
    """Devices without hardware behind them."""
    return sorted(Path("/dev") / path.name for path in _VIRTUAL.glob("video*")) if _VIRTUAL.is_dir() else []
