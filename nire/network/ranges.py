"""Times of a window as the network takes them: 0 is its start and 1 its end; rows below the sensor repeat its last.

Everything here is numpy, float64; a caller makes tensors of it at the edge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nire.shutter import Shutter
from nire.types import ContentWindow

Ranges = NDArray[np.float64]


def image_ranges(window: ContentWindow, padded: tuple[int, int]) -> Ranges:
    """Give the exposure of each row of each frame: [N, height, 2].

    Args:
        window: with N frames, 0 to 2.
        padded: height and width that the network works on.
    """
    known = [np.stack(frame.shutter.normalised(*span_of(window)), axis=-1) for frame in window.frames]
    # The first one only gives the shape where there is no frame.
    return _padded(np.stack([np.zeros((window.geometry.height, 2)), *known]), padded)[1:]


def segment_ranges(window: ContentWindow, edges_us: NDArray[np.int64], segments: int) -> Ranges:
    """Give the span of each segment: [M, 2].

    Args:
        window: of the segments.
        edges_us: int64 [M B + 1], event time.
        segments: M.
    """
    frame_us: Ranges = edges_us.astype(np.float64) - window.calibration.time_offset_us
    starts, ends = frame_us[:-1].reshape(segments, -1)[:, 0], frame_us[1:].reshape(segments, -1)[:, -1]
    return np.stack([_within(window, starts), _within(window, ends)], axis=-1)


def shutter_ranges(window: ContentWindow, shutters: Sequence[Shutter], padded: tuple[int, int]) -> Ranges:
    """Give the shutters of Q films: [Q, height, 2], or [Q, height, width, 2] where one of them is per pixel.

    Args:
        window: that is asked.
        shutters: frame time.
        padded: height and width that the network works on.
    """
    ranges = [np.stack([_within(window, s.t_a_us), _within(window, s.t_b_us)], axis=-1) for s in shutters]
    if any(r.ndim == 3 for r in ranges):  # of pixels, then all are
        shape = (window.geometry.height, window.geometry.width, 2)
        ranges = [np.broadcast_to(r if r.ndim == 3 else r[:, None], shape) for r in ranges]
    return _padded(np.stack(ranges), padded)


def span_of(window: ContentWindow) -> tuple[float, float]:
    """Find the window's span in frame time: what the network calls 0 and 1."""
    offset_us = window.calibration.time_offset_us
    return window.t0_us - offset_us, window.t1_us - offset_us


def _within(window: ContentWindow, t_us: Ranges) -> Ranges:
    first_us, last_us = span_of(window)
    return np.clip((t_us - first_us) / (last_us - first_us), 0.0, 1.0)


def _padded(ranges: Ranges, padded: tuple[int, int]) -> Ranges:
    widths = [(0, 0), (0, padded[0] - ranges.shape[1]), *[(0, 0)] * (ranges.ndim - 2)]
    if ranges.ndim == 4:
        widths[2] = (0, padded[1] - ranges.shape[2])
    return np.pad(ranges, widths, mode="edge")
