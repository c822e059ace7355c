"""Write small files as Metavision's HDF5 recordings are: events, indexes, edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.drivers.prophesee import evt_writer

EVENTS = evt_writer.sorted_events(3000)
EDGES = [(5100, 0, True), (5900, 6, False), (900_000, 6, True)]
CD = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
EDGE = np.dtype([("p", "<i2"), ("t", "<i8"), ("id", "<i2")])


def write(path: Path, *, geometry: str | None = "64x48", **options: Any) -> Path:
    """Write a recording of 64 x 48 pixels; `compression` is the number of a filter, and leaves the events unwritten."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        if geometry is not None:
            file.attrs["geometry"] = geometry
        rows = np.array([(x, y, p, t) for t, x, y, p in EVENTS], CD)
        if "compression" in options:
            file.create_group("CD")
            space, plist = h5py.h5s.create_simple((len(rows),)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk((1000,))
            plist.set_filter(options["compression"], h5py.h5z.FLAG_OPTIONAL, ())
            h5py.h5d.create(file.id, b"CD/events", h5py.h5t.py_create(CD), space, plist)
        else:
            file.create_dataset("CD/events", data=rows, chunks=(1000,))
        file["CD/indexes"] = np.zeros(3)
        file["EXT_TRIGGER/events"] = np.array([(int(p), t, channel) for t, channel, p in EDGES], EDGE)
    return path
