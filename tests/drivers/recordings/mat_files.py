"""Writes small folders of image and event pairs for tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import scipy.io

START_US = 1_615_007_563_000_000


def times_us() -> list[int]:
    """Of all events, from the first exposure's start."""
    return [15_000 * n + t for n in range(3) for t in range(0, 10_000, 100)]


def write(folder: Path, *, nested: bool = False) -> Path:
    """Three exposures of 10 ms, 15 ms apart, numbers 7 to 9; returns the folder."""
    images, events = (folder / "images", folder / "mat") if nested else (folder, folder)
    for place in (images, events):
        place.mkdir(parents=True, exist_ok=True)
    for n in range(3):
        number, t_us = n + 7, np.arange(0, 10_000, 100) + 15_000 * n
        assert cv2.imwrite(str(images / f"{number:06d}.png"), np.full((24, 32), number, np.uint8))
        columns = {"timestamp": (START_US + t_us) * 1e-6, "x": t_us % 32, "y": t_us % 24, "polarity": t_us // 100 % 2}
        bounds = {"start_timestamp": 15_000 * n, "end_timestamp": 15_000 * n + 10_000}
        values = {f"section_event_{name}": column for name, column in columns.items()}
        values |= {name: np.array([[(START_US + time_us) * 1e-6]]) for name, time_us in bounds.items()}
        scipy.io.savemat(events / f"event{number:06d}.mat", values)
    return folder
