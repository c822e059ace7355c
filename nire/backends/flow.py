"""Optical flow between two deblurred frames: light is moved, not re-exposed; what methods with events are held against.

Where frames are sharp and things move smoothly it is hard to beat; where things are fast, or hide one another, it
tears. Events are used to deblur and to unroll the frames, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.backends import prepare_torch
from nire.explicit.witnesses import encoded
from nire.flow import Motion, motion_between
from nire.integral.reconstructor import IntegralReconstructor, threads_for
from nire.shutter import Shutter, Times
from nire.types import ContentWindow, Geometry

# An exposure is the mean of so many instants.
_INSTANTS = 9


class FlowReconstructor(IntegralReconstructor):
    """Frames moved along optical flow (OpenCV's dense inverse search)."""

    name = "flow"
    engine = "opencv"
    mixes_pixels = True

    def __init__(self, geometry: Geometry, device: torch.device, bin_us: int) -> None:
        """Allocate for one sensor on one device; flow itself is found on the CPU."""
        super().__init__(geometry, device, bin_us)
        self._motion: Motion | None = None
        self._when_us = (0.0, 0.0)

    def _built(self, window: ContentWindow, light: Sequence[Tensor]) -> None:
        """Deblur each frame at the middle of its exposure, all rows at once, and find the motion between two."""
        deblurred, when_us = [], []
        for n, frame in enumerate(window.frames):
            middle_us = (frame.shutter.first_us + frame.shutter.last_us) / 2
            deblurred.append(self._integral.estimates(Shutter.instant(middle_us, self._geometry.height))[0][n])
            when_us.append(middle_us)
        images = [image.permute(1, 2, 0).cpu().numpy() for image in deblurred]
        found = motion_between(*(encoded(image).cpu().numpy() for image in (deblurred[0], deblurred[-1])))
        self._motion = Motion(images[0], images[-1], found.forward, found.backward)
        self._when_us = (when_us[0], when_us[-1])
        del light

    def light_at(self, shutter: Shutter) -> Tensor:
        """Expose one shutter, as `IntegralReconstructor.light_at`."""
        assert self._motion is not None
        shares = [0.5] if shutter.is_instant else np.linspace(0, 1, _INSTANTS)
        total = sum(self._moved(shutter.t_a_us + share * (shutter.t_b_us - shutter.t_a_us)) for share in shares)
        mean = np.asarray(total, np.float32) / len(shares)
        return self._light.copy_(torch.from_numpy(mean).permute(2, 0, 1))

    def show(self, shutters: Sequence[Shutter], images: Tensor, encoding: NDArray[np.uint8]) -> bool:
        """Leave it to `light_at`."""
        return False

    def _moved(self, t_us: Times) -> NDArray[np.float32]:
        """Blend both frames by time, [H, W, C] levels, at [H] or [H, W]."""
        assert self._motion is not None
        first_us, second_us = self._when_us
        share = (t_us - first_us) / max(second_us - first_us, 1.0) if second_us > first_us else np.zeros_like(t_us)
        share = share if share.ndim == 2 else share[:, None]
        first, second = (image.reshape(*image.shape[:2], -1) for image in self._motion.at(share))
        weight = np.clip(share, 0, 1)[..., None].astype(np.float32)
        moved: NDArray[np.float32] = first + weight * (second - first)
        return moved


def create(geometry: Geometry, device: str = "cpu", *, bin_us: int = 500, threads: int = 0) -> FlowReconstructor:
    """Make the backend; arguments and errors as those of `nire.backends.edi.create`."""
    return FlowReconstructor(geometry, prepare_torch(device, threads or threads_for(geometry)), bin_us)
