"""A video of the nearest captured frame beside each exposed one, `beside.mp4`."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nire.types import ExposedFrame, Frame
from stream.display import Tone
from stream.outputs.video import Video

FILES = ("beside.mp4",)
_NEAREST_OF = 8
_GAP = 4


def create(out: Path, *, in_order: bool, fps: float | None = None, plain: bool = False) -> Beside:
    """Write into the run's folder."""
    return Beside(Video(out / FILES[0], fps, in_order=in_order), None if plain else Tone())


class Beside:
    """Lays captured (left) and exposed (right) side by side; black where nothing was captured."""

    def __init__(self, video: Video, tone: Tone | None = None) -> None:
        """Write into `video`; `tone` makes both images visible in the same way, None = their values as they are."""
        self._video = video
        self._tone = tone
        self._captured: deque[Frame] = deque(maxlen=_NEAREST_OF)

    def captured(self, frame: Frame) -> None:
        """Take a captured frame; those around an exposed one come before it."""
        self._captured.append(frame)

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Append an exposed frame with the captured one that is nearest in time."""
        mid_us = frame.shutter.mid_us
        nearest = min(self._captured, key=lambda other: abs(other.mid_us - mid_us), default=None)
        left, right = np.zeros_like(frame.pixels) if nearest is None else nearest.pixels, frame.pixels
        if self._tone is not None:
            self._tone.learn(right, mid_us)
            left, right = self._tone.shown(left), self._tone.shown(right)
        self._video.take(side_by_side(left, right), index=index, t_us=mid_us)

    def summary(self) -> str:
        """Tell what was written."""
        return self._video.summary()

    def __enter__(self) -> Self:
        """Begin."""
        self._video.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the video."""
        self._video.__exit__(kind, error, trace)


def side_by_side(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay two images of one height side by side, a white line between them.

    Args:
        left, right: uint8 [H, W, C], gray or RGB.

    Returns:
        uint8 [H, W + 4 + W, C]; in colour where one of them is.
    """
    channels = max(left.shape[2], right.shape[2])
    gap = np.full((right.shape[0], _GAP, channels), 255, np.uint8)
    parts = [np.broadcast_to(part, (*part.shape[:2], channels)) for part in (left, right)]
    return np.concatenate([parts[0], gap, parts[1]], axis=1)
