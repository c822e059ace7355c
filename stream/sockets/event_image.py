"""The picture of the newest events: a signed count per pixel, made only when somebody looks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch, Geometry


@dataclass(frozen=True, slots=True, eq=False)
class EventImage:
    """Brighter minus darker events per pixel over [t_a_us, t_b_us).

    Attributes:
        index: counts images.
        pixels: int8 [H, W, 1], clipped to -127 ... 127.
        t_a_us, t_b_us: device time.
        events: how many events it shows.
        received_ns: host monotonic time at which the newest of them was received.
    """

    index: int
    pixels: NDArray[np.int8]
    t_a_us: int
    t_b_us: int
    events: int
    received_ns: int


class EventImager:
    """Keeps the newest batches (references, no copies) and draws them at most `fps` times a second."""

    def __init__(self, geometry: Geometry, *, span_us: float, fps: float, first_index: int = 0) -> None:
        """Start empty.

        Args:
            geometry: of the sensor.
            span_us: how far back an image reaches, device time, > 0 (`preview.events_ms`).
            fps: images a second of host time, > 0 (`preview.fps`).
            first_index: of the first image.
        """
        self._geometry = geometry
        self._span_us = span_us
        self._period_ns = int(1e9 / fps)
        self._batches: deque[EventBatch] = deque()
        self._next_ns = 0
        self._index = first_index
        self._dirty = False

    def add(self, batch: EventBatch) -> None:
        """Remember a batch and forget what is too old; costs nothing per event."""
        batches = self._batches
        if batches and batch.epoch != batches[-1].epoch:
            batches.clear()
        batches.append(batch)
        self._dirty = True
        oldest_us = batch.watermark_us - self._span_us
        while batches[0].watermark_us <= oldest_us:
            batches.popleft()

    def clear(self) -> None:
        """Forget everything, for the time in which nobody looks."""
        self._batches.clear()
        self._dirty = False

    def take(self, now_ns: int) -> EventImage | None:
        """Draw the newest image, or None where nothing is new or the last one is too recent.

        Args:
            now_ns: host monotonic time.
        """
        if not self._dirty or now_ns < self._next_ns:
            return None
        self._next_ns = now_ns + self._period_ns
        self._dirty = False
        return self._draw()

    def _draw(self) -> EventImage:
        height, width = self._geometry.height, self._geometry.width
        end_us = self._batches[-1].watermark_us
        start_us = int(end_us - self._span_us)
        counts = np.zeros(height * width, np.int64)
        total = 0
        for batch in self._batches:
            first = int(np.searchsorted(batch.t_us, start_us))
            where = batch.y[first:].astype(np.int64) * width + batch.x[first:]
            brighter = batch.p[first:] != 0
            counts += np.bincount(where[brighter], minlength=counts.size)
            counts -= np.bincount(where[~brighter], minlength=counts.size)
            total += where.size
        self._index += 1
        pixels = np.clip(counts, -127, 127).astype(np.int8).reshape(height, width, 1)
        newest_ns = max(batch.received_ns for batch in self._batches)
        return EventImage(self._index - 1, pixels, start_us, end_us, total, newest_ns)
