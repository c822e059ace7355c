"""What dv-processing hands out (events, frames, inertial samples, triggers), as packets of this project."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.source import missing_package, require_sdk
from nire.types import Frame, ImuBatch, Trigger

PACKAGE, EXTRA = "dv-processing>=2.0.4", "davis"

GRAVITY_MPS2 = 9.80665
EDGES = {
    1: (0, True),
    2: (0, False),
    3: (0, True),
    4: (1, True),
    5: (1, False),
    6: (2, True),
    7: (2, False),
    8: (3, True),
    9: (3, False),
}
"""Trigger type, here and in AEDAT4 files -> (channel, rising).

Channels: 0 signal input, 1 generator, 2 frame read-out, 3 exposure of the APS."""

_EXPOSURE_START = 8
_MATCH_US = 500

Columns = tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]


def sdk() -> ModuleType:
    """Import dv-processing.

    Raises:
        SdkMissing: it is not installed.
    """
    return require_sdk("dv_processing", package=PACKAGE, extra=EXTRA)


def missing_sdk() -> str:
    """Say how to install dv-processing; "" where it is."""
    return missing_package("dv_processing", package=PACKAGE, extra=EXTRA)


def first_line(error: Exception) -> str:
    """Shorten what the SDK says: it appends where in its own code that was, and a C++ stack trace."""
    lines = str(error).partition(" [system:")[0].strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def event_columns(store: Any) -> Columns:
    """Copy a `dv.EventStore` into columns: int64 t_us, uint16 x, uint16 y, uint8 p, each [N]."""
    events = store.numpy()
    return (
        np.ascontiguousarray(events["timestamp"], np.int64),
        np.ascontiguousarray(events["x"]).astype(np.uint16),
        np.ascontiguousarray(events["y"]).astype(np.uint16),
        np.ascontiguousarray(events["polarity"]).astype(np.uint8),
    )


def frame_of(image: Any, index: int, channels: int, now_ns: int) -> Frame:
    """Convert a `dv.Frame`: its time stamp is the start of its exposure, its exposure a timedelta.

    Args:
        image: the `dv.Frame`.
        index: count of the camera.
        channels: 1 or 3; a gray image in a colour stream is repeated, a colour one in a gray stream made gray.
        now_ns: when it was received, host monotonic time.
    """
    start_us, exposure_us = int(image.timestamp), round(image.exposure.total_seconds() * 1e6)
    pixels = np.array(image.image, np.uint8)  # a copy: the SDK may use its memory again
    if pixels.ndim == 3 and pixels.shape[2] != channels:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY if channels == 1 else cv2.COLOR_BGRA2RGB)
    elif pixels.ndim == 3 and channels == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    elif pixels.ndim == 2 and channels == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return Frame(
        index,
        np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels)),
        start_us,
        start_us + max(0, exposure_us),
        received_ns=now_ns,
        exposure_known=exposure_us > 0,
    )


def imu_batch(samples: Iterable[Any]) -> ImuBatch:
    """Convert a vector of `dv.IMU`: it has g and degrees a second."""
    rows = [
        (s.timestamp, s.accelerometerX, s.accelerometerY, s.accelerometerZ, s.gyroscopeX, s.gyroscopeY, s.gyroscopeZ)
        for s in samples
    ]
    t_us = np.array([row[0] for row in rows], np.int64)
    values = np.array([row[1:] for row in rows], np.float32).reshape(len(rows), 6)
    return ImuBatch(t_us, values[:, :3] * np.float32(GRAVITY_MPS2), np.deg2rad(values[:, 3:]))


def triggers_of(edges: Iterable[Any]) -> list[Trigger]:
    """Convert a vector of `dv.Trigger`; kinds that are no edge (the reset of the clock) are left out."""
    known = [(int(edge.timestamp), EDGES.get(int(edge.type.value))) for edge in edges]
    return [Trigger(t_us, *kind) for t_us, kind in known if kind is not None]


class FrameCounter:
    """Counts frames by the camera's own marks of exposure, so that a frame that got lost leaves a hole."""

    def __init__(self) -> None:
        """Begin before the first frame."""
        self._marks_us: deque[int] = deque(maxlen=1000)
        self._index = -1
        self._newest_us: int | None = None

    def saw(self, edges: Iterable[Any]) -> None:
        """Note the marks among some `dv.Trigger`s."""
        self._marks_us.extend(int(e.timestamp) for e in edges if int(e.type.value) == _EXPOSURE_START)

    def index_of(self, start_us: int) -> int:
        """Give the index of the frame whose exposure began at a time; without marks simply the next."""
        newest_us, self._newest_us = self._newest_us, start_us
        first = newest_us is None or start_us < newest_us  # of the stream, or of a clock that began again
        # A mark may come after its frame: it is that frame's still, not a lost one's.
        after_us = start_us - _MATCH_US if first or newest_us is None else newest_us + _MATCH_US
        until_us = start_us + _MATCH_US
        passed = sum(after_us < mark_us <= until_us for mark_us in self._marks_us)
        self._marks_us = deque((mark_us for mark_us in self._marks_us if mark_us > until_us), maxlen=1000)
        self._index += 1 if first else max(1, passed)
        return self._index


def bayer_of(arrangement: Any) -> str:
    """Name the colours that the top left 2 x 2 event pixels see, as `Geometry.bayer` does; "" for a mono sensor.

    The SDK is asked pixel by pixel: its own names (RGBG, GRGB, ...) go round the square.

    Args:
        arrangement: a `dv.PixelArrangement`.
    """
    dv = sdk()
    colours = [dv.colorForEvent(dv.Event(0, x, y, True), arrangement) for y in (0, 1) for x in (0, 1)]
    return "" if dv.EventColor.WHITE in colours else "".join(colour.name[0] for colour in colours)
