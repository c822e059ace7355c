"""A backend without frames or weights, `reconstructor.backend = "tests.stream.signed_events"`: events until now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nire.types import Content, ContentWindow, Geometry, Query


class SignedEvents:
    """Gray, and 8 levels brighter or darker for each event of the window until the middle of the shutter."""

    name = "signed_events"
    engine = "numpy"
    needs_frames = False

    def build(self, window: ContentWindow) -> Content:
        assert window.frames == ()
        return window

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        window: ContentWindow = content
        return np.stack([_image(window, query) for query in queries])


def create(geometry: Geometry, device: str = "cpu") -> SignedEvents:
    del geometry, device
    return SignedEvents()


def _image(window: ContentWindow, query: Query) -> NDArray[np.uint8]:
    window.require(query.shutter)
    events = window.events
    until = np.searchsorted(events.t_us, query.shutter.mid_us + window.calibration.time_offset_us)
    levels = np.full((query.film.height, query.film.width, query.film.channels), 128)
    signs = events.p[:until].astype(int) * 2 - 1
    np.add.at(levels, (events.y[:until], events.x[:until]), 8 * signs[:, None])
    return np.clip(levels, 0, 255).astype(np.uint8)
