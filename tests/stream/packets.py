"""A small recording in memory, for tests of what takes packets: 6 frames at 25 Hz and events all along."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from drivers.source import SourceInfo
from nire.types import EventBatch, Frame, Geometry, Packet
from tests.nire.windows import random_events, random_frame

GEOMETRY = Geometry(12, 9)
INFO = SourceInfo("six frames", GEOMETRY, time_offset_us=0.0)
START_US = 1_000_000
PERIOD_US = 40_000
EXPOSURE_US = 20_000


def frames(count: int = 6, row_delay_us: float = 0.0) -> list[Frame]:
    """Make frames 0, 1, ... exposed for the first half of each period."""
    starts = [START_US + i * PERIOD_US for i in range(count)]
    return [random_frame(i, i, t, t + EXPOSURE_US, row_delay_us=row_delay_us) for i, t in enumerate(starts)]


def events(count: int = 5000, periods: int = 6) -> EventBatch:
    """Make events from before the first frame to after the last."""
    return random_events(9, count, START_US - 10_000, START_US + periods * PERIOD_US + 10_000)


def cut(batch: EventBatch, edges_us: Sequence[int]) -> list[EventBatch]:
    """Split a batch at times; each piece promises the time it ends at."""
    pieces, low = [], 0
    for edge_us in [*sorted(edges_us), batch.watermark_us]:
        high = int((batch.t_us < edge_us).sum())
        columns = (column[low:high] for column in (batch.t_us, batch.x, batch.y, batch.p))
        pieces.append(EventBatch(*columns, edge_us))
        low = high
    return pieces


def in_order(images: Sequence[Frame], batches: Sequence[EventBatch]) -> list[Packet]:
    """Merge as a driver would: each frame after the events of its exposure."""
    merged: list[Packet] = []
    waiting = list(images)
    for batch in batches:
        merged.append(batch)
        while waiting and waiting[0].last_us <= batch.watermark_us:
            merged.append(waiting.pop(0))
    return merged + waiting


def usual() -> list[Packet]:
    """The recording as a driver would deliver it, in batches of 5 ms."""
    batch = events()
    return in_order(frames(), cut(batch, range(START_US - 5000, batch.watermark_us, 5000)))


def interleaved(seed: int) -> Iterator[Packet]:
    """The same recording, split at random places, frames and events shuffled together at random."""
    rng = random.Random(seed)
    batch = events()
    pieces = cut(batch, [rng.randrange(START_US - 10_000, batch.watermark_us) for _ in range(rng.randrange(40))])
    images = frames()
    while pieces or images:
        queue: list[EventBatch] | list[Frame] = pieces if pieces and (not images or rng.random() < 0.5) else images
        yield queue.pop(0)
