"""A backend that is slower than the camera: `reconstructor.backend = "tests.system.slow_backend"`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nire.types import ContentWindow, Geometry, Query

_BUILD_S = 0.15


class SlowReconstructor:
    """Takes four frame periods for a window."""

    name = "slow"
    engine = "sleep"
    needs_frames = True

    def build(self, window: ContentWindow) -> NDArray[np.uint8]:
        """Sleep."""
        time.sleep(_BUILD_S)
        return window.frames[0].pixels

    def expose(self, content: NDArray[np.uint8], queries: Sequence[Query]) -> NDArray[np.uint8]:
        """Give the frame."""
        return np.stack([content] * len(queries))


def create(geometry: Geometry, device: str) -> SlowReconstructor:
    """Make it."""
    return SlowReconstructor()
