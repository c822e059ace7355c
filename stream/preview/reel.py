"""The last seconds as they were shown, and a film of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.outputs.beside import side_by_side
from stream.outputs.video import Video

SECONDS = 10.0
_MOST_BYTES = 1 << 26
# Behind events, which are clear where nothing happened: between their colours, as on the page.
_BETWEEN = 96


@dataclass(frozen=True, slots=True)
class Shot:
    """The image files of a moment, as a browser showed them at `at_s` of monotonic time.

    Attributes:
        beside: what was captured; events where there is nothing.
        exposed: what was exposed.
    """

    at_s: float
    beside: bytes | None
    exposed: bytes | None


class Reel:
    """Keeps what a browser was sent: image files, so that ten seconds are a few megabytes."""

    def __init__(self) -> None:
        """Start empty."""
        self._shots: deque[Shot] = deque()
        self._bytes = 0

    def add(self, beside: bytes | None, exposed: bytes | None) -> None:
        """Keep a moment and forget what is older than ten seconds, or more than 64 MiB."""
        shot = Shot(time.monotonic(), beside, exposed)
        self._shots.append(shot)
        self._bytes += _size(shot)
        while self._shots and (self._shots[0].at_s < shot.at_s - SECONDS or self._bytes > _MOST_BYTES):
            self._bytes -= _size(self._shots.popleft())

    def shots(self) -> list[Shot]:
        """What is kept, the oldest first."""
        return list(self._shots)


def write_clip(shots: Sequence[Shot], path: Path) -> int:
    """Write a film: captured or events left, exposed right, or the one that there is; at the pace of what was shown.

    Its sides and their sizes are those of the newest moments. A side that a moment lacks, or had in another size, is
    gray there.

    Args:
        shots: of a reel.
        path: NAME.mp4.

    Returns:
        How many images it has; 0 = there is no file.

    Raises:
        ConfigError: it cannot be written.
    """
    passed_s = shots[-1].at_s - shots[0].at_s if shots else 0.0
    rate_hz = min(60.0, max(1.0, (len(shots) - 1) / passed_s)) if passed_s > 0 else 30.0
    count = 0
    with Video(path, rate_hz) as video:
        for image in _images(shots):
            video.append(image)
            count += 1
    return count


def _images(shots: Sequence[Shot]) -> Iterator[NDArray[np.uint8]]:
    """Lay out the sides of each moment, all in one size."""
    blanks = _blanks(shots)
    for shot in shots:
        images = {side: _decoded(getattr(shot, side)) for side in blanks}
        sides = [
            image if image is not None and image.shape == blanks[side].shape else None for side, image in images.items()
        ]
        if any(image is not None for image in sides):
            whole = [blank if image is None else image for image, blank in zip(sides, blanks.values(), strict=True)]
            yield whole[0] if len(whole) == 1 else side_by_side(*whole)


def _blanks(shots: Sequence[Shot]) -> dict[str, NDArray[np.uint8]]:
    """Give what a side looks like where a moment lacks it: of those that the newest moments show in one height."""
    found: dict[str, NDArray[np.uint8]] = {}
    for shot in reversed(shots):
        for side in ("exposed", "beside"):
            image = None if side in found else _decoded(getattr(shot, side))
            if image is not None and all(image.shape[0] == other.shape[0] for other in found.values()):
                found[side] = np.full_like(image, _BETWEEN)
        if len(found) == 2:
            break
    return {side: found[side] for side in ("beside", "exposed") if side in found}


def _decoded(file: bytes | None) -> NDArray[np.uint8] | None:
    if file is None:
        return None
    image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8:
        return None
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
    if image.shape[2] == 4:
        cover = image[..., 3:].astype(np.float32) / 255
        image = np.rint(_BETWEEN + cover * (image[..., :3] - np.float32(_BETWEEN))).astype(np.uint8)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _size(shot: Shot) -> int:
    return sum(len(file) for file in (shot.beside, shot.exposed) if file is not None)
