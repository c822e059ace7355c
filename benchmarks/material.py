"""What benchmarks measure on: packets of the synthetic camera, in memory or as a recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.cameras.synthetic import open_source
from drivers.recordings.recording.source import RecordingWriter
from drivers.source import SourceInfo
from nire.types import ContentWindow, EventBatch, Frame, Geometry, Packet, SourcePacket
from stream.windows.assembler import WindowAssembler
from stream.windows.cut import Cut

SETTINGS: dict[str, Any] = {"seed": 7, "live": False}
"""The demonstration's camera: 346 x 260, 25 Hz, 20 ms exposures, about 2.4 M events/s."""


def packets(seconds: float, *, threshold: float | None = None) -> tuple[SourceInfo, list[Packet]]:
    """Make the camera's packets of some seconds.

    Args:
        seconds: device time.
        threshold: change of log light that is an event; None = the camera's own.
    """
    sensor = {} if threshold is None else {"threshold_positive": threshold, "threshold_negative": threshold}
    with open_source(**SETTINGS, seconds=seconds, sensor=sensor) as camera:
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
    frames = tuple(_tiled_frame(frame, geometry) for frame in window.frames)
    return replace(
        window, geometry=geometry, events=_tiled_events(window.events, window.geometry, geometry), frames=frames
    )


def _tiled_frame(frame: Frame, larger: Geometry) -> Frame:
    height, width = frame.pixels.shape[:2]
    pixels = np.tile(frame.pixels, (-(-larger.height // height), -(-larger.width // width), 1))
    return replace(frame, pixels=np.ascontiguousarray(pixels[: larger.height, : larger.width]))


def _tiled_events(events: EventBatch, of: Geometry, larger: Geometry) -> EventBatch:
    down, right = np.mgrid[: -(-larger.height // of.height), : -(-larger.width // of.width)].reshape(2, 1, -1)
    y, x = (events.y[:, None] + down * of.height).ravel(), (events.x[:, None] + right * of.width).ravel()
    within = (y < larger.height) & (x < larger.width)
    t_us, p = (np.repeat(column, down.size)[within] for column in (events.t_us, events.p))
    return replace(events, t_us=t_us, x=x[within].astype(np.uint16), y=y[within].astype(np.uint16), p=p)


def write_recording(path: Path, seconds: float) -> Path:
    """Write the camera's packets of some seconds as a recording."""
    return write_packets(path, *packets(seconds))


def write_packets(path: Path, info: SourceInfo, stream: Iterable[SourcePacket]) -> Path:
    """Write packets of a source as a recording."""
    with RecordingWriter(path, info.geometry, source=info) as writer:
        for packet in stream:
            writer.write(packet)
    return path


def larger(info: SourceInfo, stream: Sequence[Packet], geometry: Geometry, *, rate_meps: float) -> Iterator[Packet]:
    """Make packets of a larger sensor, tiled as a window is; only its columns on the left move, the others stand still.

    So the moving pixels have as many events a second as those of the smaller sensor, and their light and their events
    belong together.

    Args:
        info: of the camera.
        stream: its packets.
        geometry: of the larger sensor.
        rate_meps: M events a second, on average; fewer where all of it moves and no more come.

    Yields:
        The packets, in their order.
    """
    batches = [packet for packet in stream if isinstance(packet, EventBatch) and len(packet)]
    columns = np.bincount(np.concatenate([batch.x for batch in batches]), minlength=info.geometry.width)
    seconds = 1e-6 * (int(batches[-1].t_us[-1]) - int(batches[0].t_us[0]))
    rows = geometry.height / info.geometry.height
    across = -(-geometry.width // info.geometry.width)
    meps = np.cumsum(np.tile(columns, across)[: geometry.width]) * rows / seconds / 1e6
    moving = min(int(np.searchsorted(meps, rate_meps)) + 1, geometry.width)
    still: NDArray[np.uint8] | None = None
    for packet in stream:
        if isinstance(packet, EventBatch):
            tiles = _tiled_events(packet, info.geometry, geometry)
            yield tiles.part(tiles.x < moving)
        elif isinstance(packet, Frame):
            frame = _tiled_frame(packet, geometry)
            still = frame.pixels if still is None else still
            yield replace(frame, pixels=np.concatenate([frame.pixels[:, :moving], still[:, moving:]], axis=1))
