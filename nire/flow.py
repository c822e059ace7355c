"""Optical flow between two frames: light that is moved instead of re-exposed, a witness of its own.

The flow is OpenCV's dense inverse search (Kroeger et al., ECCV 2016). Light at a time between the frames is fetched
along the flow from that time to each of them, which is put together from the flows between them as if things moved
straight and evenly (Jiang et al., "Super SloMo", CVPR 2018, Eq. 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.threads import begin

Image = NDArray[np.float32]
"""[H, W], square roots of linear light: even noise, and dark parts count."""
# Smaller images have no pyramid to search in.
_LEAST_PX = 16


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Two images and the flow between them.

    Attributes:
        first, second: float32 [H, W] or [H, W, C].
        forward: float32 [H, W, 2], where a pixel of the first is in the second, minus where it is, x and y in pixels.
        backward: the same from the second to the first.
    """

    first: Image
    second: Image
    forward: Image
    backward: Image

    def at(self, share: float | NDArray[np.float64]) -> tuple[Image, Image]:
        """Move both images to a time: 0 is the first's, 1 the second's; beyond them things move on as they did.

        Args:
            share: one for all pixels, or [H or 1, W or 1].

        Returns:
            As the images, from the first and from the second.
        """
        gone = np.asarray(share, np.float32)[..., None]
        # Of a pixel at that time, from the first to the second.
        if gone.size == 1:
            moving = cv2.addWeighted(self.forward, 1 - gone.item(), self.backward, -gone.item(), 0)
        else:
            moving = (1 - gone) * self.forward - gone * self.backward
        return _fetched(self.first, moving, -gone), _fetched(self.second, moving, 1 - gone)


def motion_between(first: Image, second: Image, *, threads: int = 1) -> Motion:
    """Search both ways between two images.

    Args:
        first, second: float32 [H, W], square roots of linear light, 1 = white.
        threads: that search.
    """
    return search_between(first, second, threads=threads)()


def search_between(first: Image, second: Image, *, threads: int = 1) -> Callable[[], Motion]:
    """Begin what `motion_between` does, by other threads where there are several: what is given back waits for it."""
    if min(first.shape) < _LEAST_PX:
        still = np.zeros((*first.shape, 2), np.float32)
        return lambda: Motion(first, second, still, still)
    images = [np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in (first, second)]
    flows = begin(lambda pair: _flow(*pair), [images, images[::-1]], threads)
    return lambda: Motion(first, second, *flows())


def _flow(origin: NDArray[np.uint8], target: NDArray[np.uint8]) -> Image:
    # One that searched before may find something else in small images: it keeps what it found there.
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    # Down to pairs of pixels instead of fours, which moves fine texture and what stands still better; and without
    # refinement, which took the time of both and brought real frames no nearer to the light that was left out.
    search.setFinestScale(1)
    search.setPatchStride(5)
    search.setGradientDescentIterations(8)
    search.setVariationalRefinementIterations(0)
    return np.asarray(search.calc(origin, target, None), np.float32)


def _fetched(image: Image, moving: Image, far: NDArray[np.float32]) -> Image:
    """Look each pixel up in `image`, so far along what is moving."""
    grid = _grid(*image.shape[:2])
    place = cv2.scaleAdd(moving, far.item(), grid) if far.size == 1 else far * moving + grid
    fetched = cv2.remap(image, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(fetched, np.float32)


@lru_cache(maxsize=2)
def _grid(height: int, width: int) -> Image:
    """Where each pixel is, x and y: [H, W, 2]."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
