"""Writes small text recordings for tests, in folders and archives."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np

COUNT = 2000
T_US = 1_468_940_032_229_371 + 13 * np.arange(COUNT)
X, Y, P = np.arange(COUNT) % 64, np.arange(COUNT) % 48, np.arange(COUNT) % 2


def line(n: int) -> str:
    """Event n as a line."""
    return f"{T_US[n] // 1_000_000}.{T_US[n] % 1_000_000:06d} {X[n]} {Y[n]} {P[n]}\n"


def write_folder(folder: Path, *, exposures: bool = False) -> Path:
    """The layout of the Zurich data sets; returns the folder."""
    (folder / "images").mkdir(parents=True)
    (folder / "events.txt").write_text("".join(line(n) for n in range(COUNT)))
    lines = []
    for n in range(2):
        start_us, end_us = T_US[0] + 10_000 * n, T_US[0] + 10_000 * n + 4000
        assert cv2.imwrite(str(folder / f"images/frame_{n:08d}.png"), np.full((48, 64), 50 + n, np.uint8))
        times = [f"{t // 1_000_000}.{t % 1_000_000:06d}" for t in ([start_us, end_us] if exposures else [start_us])]
        lines.append(" ".join([*times, f"images/frame_{n:08d}.png"]))
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return folder


def zipped(folder: Path, *, inside: str = "") -> Path:
    """Put a folder into a zip archive beside it; returns the archive."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, inside + file.relative_to(folder).as_posix())
    return path
