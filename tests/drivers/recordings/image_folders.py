"""Writes small folders of images, times and events for tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.drivers.recordings import aedat4_writer


def write(folder: Path, *, table: str = "timestamps.txt", lines: str = "2000\n12000\n22000\n") -> Path:
    """Images img9, img10, img11 of 32 x 24 pixels whose level is their number, and AEDAT4 events; the folder."""
    (folder / "images").mkdir(parents=True)
    for number in (9, 10, 11):
        assert cv2.imwrite(str(folder / f"images/img{number}.png"), np.full((24, 32), number, np.uint8))
    (folder / table).write_text(lines)
    packets = [(0, aedat4_writer.event_packet(range(n * 1000, n * 1000 + 500))) for n in range(30)]
    aedat4_writer.write(folder / "events.aedat4", packets)
    return folder
