"""Frame cameras for the driver `hybrid`, a file each; what such a camera is, and how one is opened by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from drivers.settings import called
from nire.errors import ConfigError
from nire.types import Transfer


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """What is known of a frame camera before its first frame.

    Attributes:
        name: for people.
        width, height, channels: of its frames; 1 gray, 3 RGB.
        live: it keeps real time, and `CapturedFrame.received_ns` says when a frame arrived.
        transfer: of its pixel values.
    """

    name: str
    width: int
    height: int
    channels: int
    live: bool
    transfer: Transfer = "srgb"


@dataclass(frozen=True, slots=True, eq=False)
class CapturedFrame:
    """An image whose exposure is not known yet.

    Attributes:
        index: count of the camera; a hole means a lost frame.
        pixels: uint8 [H, W, C].
        time_us: any moment of the frame, the same in each, by any steady clock, microseconds.
        exposure_us: where the camera says it.
        received_ns: host monotonic time; 0 in recordings.
    """

    index: int
    pixels: NDArray[np.uint8]
    time_us: float
    exposure_us: float | None = None
    received_ns: int = 0


class FrameCamera(Protocol):
    """A frame camera or a recording of one: entering opens it, iterating yields frames, leaving closes it."""

    @property
    def info(self) -> CameraInfo:
        """What is known of it; complete once entered."""
        ...

    def __enter__(self) -> Self:
        """Open."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; safe to call twice."""
        ...

    def __iter__(self) -> Iterator[CapturedFrame | None]:
        """Yield frames in the order of their indices until the recording ends.

        A live camera yields without end, None where it has waited in vain for a while, and raises
        `nire.errors.DeviceLost` when it goes away.
        """
        ...


def camera_names() -> list[str]:
    """Names of all frame cameras: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def missing_package_of(driver: str) -> str:
    """Say what to install for a frame camera, as its `missing_sdk` does; "" where nothing is missing or known."""
    if driver not in camera_names():
        return ""
    module = importlib.import_module(f"{__name__}.{driver}")
    return str(module.missing_sdk()) if hasattr(module, "missing_sdk") else ""


def open_frame_camera(driver: str, /, **settings: Any) -> FrameCamera:
    """Make a frame camera by name; entering it opens it.

    Args:
        driver: a file of this folder.
        settings: its own.

    Raises:
        ConfigError: no such camera, or a setting that it does not have.
    """
    names = camera_names()
    if driver not in names:
        raise ConfigError(f"there is no frame camera {driver!r}; source.settings.frames.driver is {' or '.join(names)}")
    module = importlib.import_module(f"{__name__}.{driver}")
    camera: FrameCamera = called(
        module.open_camera, settings, owner=f"the frame camera {driver!r}", place="source.settings.frames"
    )
    return camera
