"""The captured frame whose exposure is nearest: what a viewer without re-exposure shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nire.types import Content, ContentWindow, Geometry, Query


class Passthrough:
    """Answers every query with the nearest captured frame, untouched."""

    name = "passthrough"
    engine = "none"
    needs_frames = True

    def build(self, window: ContentWindow) -> Content:
        """Keep the window.

        Raises:
            ValueError: it has no frame.
        """
        if not window.frames:
            raise ValueError("passthrough shows captured frames, and this window has no frame")
        return window

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        """Pick, for each query, the frame whose middle is nearest to the shutter's: uint8 [Q, H, W, C].

        Raises:
            ShutterOutsideWindow: a shutter reaches beyond the window's `covered_us`.
        """
        window: ContentWindow = content
        for query in queries:
            window.require(query.shutter)
        return np.stack([_nearest(window, query.shutter.mid_us) for query in queries])


def create(geometry: Geometry, device: str = "cpu") -> Passthrough:
    """Make the backend; it needs neither geometry nor device."""
    del geometry, device
    return Passthrough()


def _nearest(window: ContentWindow, t_us: float) -> NDArray[np.uint8]:
    return min(window.frames, key=lambda frame: abs(frame.mid_us - t_us)).pixels
