"""What benchmarks measure on: packets of the synthetic camera, in memory or as a recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drivers.cameras.synthetic import open_source
from drivers.recordings.recording.source import RecordingWriter
from drivers.source import SourceInfo
from nire.types import ContentWindow, EventBatch, Frame, Geometry, Packet
from stream.windows.assembler import WindowAssembler
from stream.windows.cut import Cut

SETTINGS: dict[str, Any] = {"seed": 7, "live": False}
"""The demonstration's camera: 346 x 260, 25 Hz, 20 ms exposures, about 2.4 M events/s."""


def packets(seconds: float) -> tuple[SourceInfo, list[Packet]]:
    """Make the camera's packets of some seconds."""
    with open_source(**SETTINGS, seconds=seconds) as camera:
        return camera.info, list(camera)


def pairs(seconds: float) -> list[ContentWindow]:
    """Make the camera's `pair` windows of some seconds."""
    info, stream = packets(seconds)
    assembler = WindowAssembler(info.geometry, Cut("pair", margin_us=5000))
    found: list[ContentWindow] = []
    for packet in stream:
        assembler.push(packet)
        found.extend(window for window in assembler.complete() if len(window.frames) == 2)
    return found


def tiled(window: ContentWindow, geometry: Geometry) -> ContentWindow:
    """Make a window of a larger sensor: its scene again and again, side by side, cut at the right and at the bottom.

    So each pixel has as many events a second as before, and the sensor has more with its size.
    """
    height, width, events = window.geometry.height, window.geometry.width, window.events
    down, right = np.mgrid[: -(-geometry.height // height), : -(-geometry.width // width)].reshape(2, 1, -1)
    y, x = (events.y[:, None] + down * height).ravel(), (events.x[:, None] + right * width).ravel()
    within = (y < geometry.height) & (x < geometry.width)
    t_us, p = (np.repeat(column, down.size)[within] for column in (events.t_us, events.p))
    many = EventBatch(t_us, x[within].astype(np.uint16), y[within].astype(np.uint16), p, events.watermark_us)

    def larger(frame: Frame) -> Frame:
        pixels = np.tile(frame.pixels, (-(-geometry.height // height), -(-geometry.width // width), 1))
        return replace(frame, pixels=np.ascontiguousarray(pixels[: geometry.height, : geometry.width]))

    return replace(window, geometry=geometry, events=many, frames=tuple(larger(frame) for frame in window.frames))


def write_recording(path: Path, seconds: float) -> Path:
    """Write the camera's packets of some seconds as a recording."""
    info, stream = packets(seconds)
    with RecordingWriter(path, info.geometry, source=info) as writer:
        for packet in stream:
            writer.write(packet)
    return path
