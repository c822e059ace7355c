"""What benchmarks measure on: packets of the synthetic camera, in memory or as a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drivers.cameras.synthetic import open_source
from drivers.recordings.recording.source import RecordingWriter
from drivers.source import SourceInfo
from nire.types import ContentWindow, Packet
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


def write_recording(path: Path, seconds: float) -> Path:
    """Write the camera's packets of some seconds as a recording."""
    info, stream = packets(seconds)
    with RecordingWriter(path, info.geometry, source=info) as writer:
        for packet in stream:
            writer.write(packet)
    return path
