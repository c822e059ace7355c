"""What one figure for a whole image hides: moving and still pixels apart, breathing between frames, seams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.shutter import Shutter
from nire.types import Content, ContentWindow, Query, Reconstructor

PHASES = 8
"""Instants between two frames at which sharpness is compared."""
_CROP_PX = 96
_ZOOM = 3
Image = NDArray[np.uint8]


@dataclass(slots=True)
class Steadiness:
    """How one method's images of consecutive windows hang together.

    Attributes:
        sharpness: of each phase between two frames, the mean absolute horizontal gradient of each window's image.
        within, seams: mean absolute differences of consecutive images of one window, and across two.
    """

    sharpness: list[list[float]] = field(default_factory=lambda: [[] for _ in range(PHASES)])
    within: list[float] = field(default_factory=list)
    seams: list[float] = field(default_factory=list)
    _last: tuple[float, Image] | None = None

    def add(self, window: ContentWindow, images: Sequence[Image]) -> None:
        """Take the images of one window, of `phases`."""
        for phase, image in zip(self.sharpness, images, strict=True):
            phase.append(float(np.abs(np.diff(image.astype(np.float32), axis=1)).mean()))
        self.within += [_difference(a, b) for a, b in pairwise(images)]
        first, second = (frame.shutter.mid_us for frame in window.frames)
        if self._last is not None and self._last[0] == first:
            self.seams.append(_difference(self._last[1], images[0]))
        self._last = (second, images[-1].copy())

    @property
    def breathing(self) -> float:
        """One minus the least over the greatest sharpness of the phases."""
        means = [float(np.mean(phase)) for phase in self.sharpness if phase]
        return 1 - min(means) / max(means) if means and max(means) > 0 else 0.0

    @property
    def seam_ratio(self) -> float:
        """Steps from window to window over those within one; 1 where there are none of either."""
        usual = float(np.mean(self.within)) if self.within else 0.0
        return float(np.mean(self.seams)) / usual if self.seams and usual > 0 else 1.0


@dataclass(slots=True)
class Apart:
    """PSNR of one method's left-out frames, gain-corrected, in dB.

    Attributes:
        moving, still: of the frames that have such pixels.
    """

    moving: list[float] = field(default_factory=list)
    still: list[float] = field(default_factory=list)

    def add(self, image: Image, captured: Image, moving: NDArray[np.bool_]) -> None:
        """Compare one image; `moving` is [H, W]."""
        error = (gain_corrected(image, captured) - captured.astype(np.float64)) ** 2
        for chosen, found in ((moving, self.moving), (~moving, self.still)):
            if chosen.any():
                mean = float(error[chosen].mean())
                found.append(min(100.0, 10 * float(np.log10(255.0**2 / max(mean, 1e-10)))))


def moving_pixels(window: ContentWindow) -> NDArray[np.bool_]:
    """Find the pixels with events between the middles of a window's two frames, and their neighbours: bool [H, W]."""
    first, second = (frame.shutter.mid_us + window.calibration.time_offset_us for frame in window.frames)
    events = window.events
    between = (events.t_us >= first) & (events.t_us < second)
    moving = np.zeros((window.geometry.height, window.geometry.width), np.uint8)
    moving[events.y[between], events.x[between]] = 1
    if window.calibration.hot_pixels is not None:
        moving[window.calibration.hot_pixels] = 0
    dilated: NDArray[np.bool_] = cv2.dilate(moving, np.ones((3, 3), np.uint8)) > 0
    return dilated


def gain_corrected(image: Image, captured: Image) -> NDArray[np.float64]:
    """Scale an image to a captured one by least squares: cameras that set their gain themselves change it."""
    given, right = image.astype(np.float64), captured.astype(np.float64)
    scaled: NDArray[np.float64] = given * (float((given * right).sum()) / max(float((given * given).sum()), 1e-9))
    return scaled


def phases(window: ContentWindow, tag: str) -> list[Query]:
    """Ask for instants at the middles of equal parts of the time between the middles of two frames."""
    first, second = (frame.shutter.mid_us for frame in window.frames)
    film = window.film
    times_us = first + (np.arange(PHASES) + 0.5) / PHASES * (second - first)
    return [Query(film, Shutter.instant(float(t_us), film.height), tag) for t_us in times_us]


def watch(
    backend: Reconstructor, content: Content, window: ContentWindow, steadiness: Steadiness, columns: slice
) -> None:
    """Let a backend answer the phases of a window that it has built."""
    images = backend.expose(content, phases(window, "phase"))
    steadiness.add(window, [np.ascontiguousarray(image[:, columns]) for image in images])


def below_best(apart: Mapping[str, Apart], method: str, others: Sequence[str]) -> tuple[float, float]:
    """Tell how often and how deep a method's moving pixels are below the best of others: a share, and dB."""
    pairs = zip(apart[method].moving, *(apart[other].moving for other in others), strict=True)
    depths = [max(0.0, max(best) - own) for own, *best in pairs]
    return (float(np.mean([depth > 0 for depth in depths])), max(depths)) if depths else (0.0, 0.0)


def moving_crops(images: Sequence[Image], moving: NDArray[np.bool_]) -> Image:
    """Show the liveliest square of images side by side, enlarged; `moving` is [H, W]."""
    height, width = moving.shape
    size = min(_CROP_PX, height, width)
    lively = cv2.boxFilter(moving.astype(np.float32), -1, (size, size), anchor=(0, 0), normalize=False)
    places = lively[: height - size + 1, : width - size + 1]
    top, left = np.unravel_index(int(places.argmax()), places.shape)
    beside = np.concatenate([image[top : top + size, left : left + size] for image in images], axis=1)
    enlarged = cv2.resize(beside, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_NEAREST)
    return np.asarray(enlarged, np.uint8).reshape(_ZOOM * size, -1, images[0].shape[2])


def _difference(one: Image, other: Image) -> float:
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).mean())
