"""Two recordings of one bench: an event camera's RAW file in EVT 3.0 with trigger edges, and a frame camera's images.

What the driver `hybrid` joins again. Each row of a microsecond is told once, its events one by one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch, Frame, Geometry, Packet

_CAMERA_CLOCK_US = 7.25e11  # the frame camera counts from elsewhere
_Y, _X, _TIME_LOW, _TIME_HIGH, _TRIGGER = (kind << 12 for kind in (0x0, 0x2, 0x6, 0x8, 0xA))


@dataclass(frozen=True, slots=True)
class Rig:
    """Where it lies: the RAW file, and the folder of images with their table."""

    events: Path
    frames: Path

    def settings(self) -> str:
        """Settings of the driver `hybrid`, as --set takes them."""
        return f'{{frames = {{driver = "recorded", transfer = "linear", path = "{self.frames}"}}}}'


def write_rig(folder: Path, geometry: Geometry, stream: Iterable[Packet]) -> Rig:
    """Write a source's packets as the two cameras of a bench would record them.

    Args:
        folder: to write to.
        geometry: of the sensor; both cameras see the same pixels.
        stream: events, and gray frames in linear light whose exposures become edges; frames come after the events of
            their exposures, as from any source, and edges after the events before them.
    """
    rig = Rig(folder / "events.raw", folder / "frames")
    rig.frames.mkdir()
    size = f"{geometry.width}x{geometry.height}"
    header = f"% evt 3.0\n% format EVT3;height={geometry.height};width={geometry.width}\n% geometry {size}\n% end\n"
    held: list[EventBatch] = []
    with (
        open(rig.events, "wb") as raw,
        open(rig.frames / "times.csv", "w", newline="", encoding="utf-8") as file,
    ):
        raw.write(header.encode())
        table = csv.writer(file)
        table.writerow(["file", "time_us", "exposure_us"])
        for packet in stream:
            if isinstance(packet, EventBatch):
                held.append(packet)
            elif isinstance(packet, Frame):
                start_us, end_us = packet.exposure_start_us, packet.exposure_end_us
                _write(raw, held, [(start_us, 1), (end_us, 0)])
                held.clear()
                name = f"{packet.index:06d}.png"
                # Hardly compressed: cameras write what is quick to write.
                cv2.imwrite(str(rig.frames / name), packet.pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
                table.writerow([name, _CAMERA_CLOCK_US + start_us, end_us - start_us])
        _write(raw, held, [])
    return rig


def _write(raw: BinaryIO, batches: Iterable[EventBatch], edges: list[tuple[int, int]]) -> None:
    """Write events and, in their places among them, edges: time and whether the line rises."""
    for batch in batches:
        first = 0
        while edges and edges[0][0] <= batch.watermark_us:
            cut = int(np.searchsorted(batch.t_us, edges[0][0]))
            raw.write(_words(batch.part(slice(first, cut))).tobytes())
            raw.write(_edge(*edges.pop(0)).tobytes())
            first = cut
        raw.write(_words(batch.part(slice(first, None))).tobytes())
    for edge in edges:
        raw.write(_edge(*edge).tobytes())


def _edge(t_us: int, rising: int) -> NDArray[np.uint16]:
    return np.array([_TIME_HIGH | t_us >> 12 & 0xFFF, _TIME_LOW | t_us & 0xFFF, _TRIGGER | rising], "<u2")


def _words(batch: EventBatch) -> NDArray[np.uint16]:
    """Encode events: [time high, time low] where the time is another one, [y] where that or the row is, then x."""
    order = np.lexsort((batch.x, batch.y, batch.t_us))
    t_us, x, y, p = (column[order].astype(np.int64) for column in (batch.t_us, batch.x, batch.y, batch.p))
    later = np.diff(t_us, prepend=-1) != 0
    lower = later | (np.diff(y, prepend=-1) != 0)
    last = np.cumsum(1 + lower + 2 * later) - 1
    words = np.empty(int(last[-1]) + 1 if len(last) else 0, "<u2")
    words[last] = _X | p << 11 | x
    words[last[lower] - 1] = _Y | y[lower]
    words[last[later] - 2] = _TIME_LOW | t_us[later] & 0xFFF
    words[last[later] - 3] = _TIME_HIGH | t_us[later] >> 12 & 0xFFF
    return words
