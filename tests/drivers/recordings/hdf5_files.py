"""Writes a small HDF5 recording for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

COUNT = 3000
T_US = np.arange(COUNT) * 10
X, Y, P = T_US // 10 % 64, T_US // 10 % 48, T_US // 10 % 2


def write_common(path: Path) -> Path:
    """The layout with columns in events/ and a stack of images with exposures."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, column in zip("txyp", (T_US, X.astype(np.uint16), Y.astype(np.uint16), P.astype(bool)), strict=True):
            file[f"events/{name}"] = column
        file["images"] = (np.arange(3 * 48 * 64) % 256).astype(np.uint8).reshape(3, 48, 64)
        file["images_ts"] = np.array([5000, 15_000, 25_000])
        file["exposure_start_us"] = np.array([4000, 14_000, 24_000])
        file["exposure_end_us"] = np.array([6000, 16_000, 26_000])
    return path
