"""The golden example of the contract: a recording small enough to reason about, and its shutters."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from drivers.recordings.recording.source import RecordingWriter
from nire.types import EventBatch, Frame, Geometry

GEOMETRY = Geometry(100, 80)
THRESHOLD = 0.25
EVENT_US = 30_000
ROW, COLUMNS = 40, range(45, 55)
SHUTTERS = """\
{"t_a_us": 10000, "t_b_us": 10000, "row_delay_us": 0, "tag": "mid"}
{"t_a_us": 0, "t_b_us": 20000, "row_delay_us": 0, "tag": "own"}
{"t_a_us": 30000, "t_b_us": 30000, "row_delay_us": 10, "tag": "gap"}
{"t_a_us": 90000, "t_b_us": 90000, "row_delay_us": 0, "tag": "late"}
"""


def frames() -> tuple[Frame, Frame]:
    """Two frames of 100 x 80, exposed over [0, 20000) and [40000, 60000): a slope, ten pixels get brighter."""
    first = np.tile(np.linspace(40, 180, GEOMETRY.width), (GEOMETRY.height, 1))
    second = first.copy()
    second[ROW, COLUMNS.start : COLUMNS.stop] *= math.exp(THRESHOLD)
    pixels = [np.rint(image).astype(np.uint8)[..., None] for image in (first, second)]
    return Frame(0, pixels[0], 0, 20_000), Frame(1, pixels[1], 40_000, 60_000)


def events() -> EventBatch:
    """Ten events at 30 ms, one in each pixel that gets brighter: light by `THRESHOLD` in log intensity."""
    count = len(COLUMNS)
    return EventBatch(
        np.full(count, EVENT_US, np.int64),
        np.array(COLUMNS, np.uint16),
        np.full(count, ROW, np.uint16),
        np.ones(count, np.uint8),
        EVENT_US,
    )


def write_recording(path: Path) -> Path:
    """Write the recording; returns the path."""
    first, second = frames()
    with RecordingWriter(path, GEOMETRY, {"what": "golden example"}) as writer:
        writer.write(EventBatch.empty(20_000))
        writer.write(first)
        writer.write(events())
        writer.write(EventBatch.empty(60_000))
        writer.write(second)
    return path


def write_shutters(path: Path) -> Path:
    """Write the four shutters, one JSON object a line; returns the path."""
    path.write_text(SHUTTERS, encoding="utf-8")
    return path
