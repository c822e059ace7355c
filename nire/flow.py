"""Optical flow between two frames: light that is moved instead of re-exposed, a witness of its own.

The flow is OpenCV's dense inverse search (Kroeger et al., ECCV 2016). Light at a time between the frames is fetched
along the flow from that time to each of them, which is put together from the flows between them as if things moved
straight and evenly (Jiang et al., "Super SloMo", CVPR 2018, Eq. 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

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
        gone = np.atleast_2d(np.asarray(share, np.float32))[..., None]
        to_first: Image = gone * gone * self.backward - (1 - gone) * gone * self.forward
        to_second: Image = (1 - gone) ** 2 * self.forward - gone * (1 - gone) * self.backward
        return _fetched(self.first, to_first), _fetched(self.second, to_second)


def motion_between(first: Image, second: Image) -> Motion:
    """Search both ways between two images.

    Args:
        first, second: float32 [H, W], square roots of linear light, 1 = white.
    """
    if min(first.shape) < _LEAST_PX:
        still = np.zeros((*first.shape, 2), np.float32)
        return Motion(first, second, still, still)
    images = [np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in (first, second)]
    return Motion(first, second, _flow(images[0], images[1]), _flow(images[1], images[0]))


def _flow(origin: NDArray[np.uint8], target: NDArray[np.uint8]) -> Image:
    # One that searched before may find something else in small images: it keeps what it found there.
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return np.asarray(search.calc(origin, target, None), np.float32)


def _fetched(image: Image, flow: Image) -> Image:
    """Look each pixel up where the flow says that it is in `image`."""
    height, width = image.shape[:2]
    columns = flow[..., 0] + np.arange(width, dtype=np.float32)
    rows = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    fetched = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(fetched, np.float32)
