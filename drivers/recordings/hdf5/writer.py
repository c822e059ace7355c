"""Writes HDF5 in the layout of DSEC, with the frames as a stack beside the events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.source import SourceInfo, require_sdk
from drivers.writing import FileWriter
from nire.errors import SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, ImuBatch, SourcePacket, Trigger, WallClock

SUFFIX = ".h5"

_CHUNK = 1 << 16  # events
_COLUMNS = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
_UNKNOWN = (1, 0)  # an exposure that ends before it starts is none
_PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}  # which any HDF5 has


def create_writer(path: Path, geometry: Geometry, source: SourceInfo) -> Hdf5Writer:
    """Begin a recording; see `Hdf5Writer`.

    Raises:
        SdkMissing: h5py is not installed.
        SourceError: the file cannot be made.
    """
    return Hdf5Writer(path, geometry, source)


class Hdf5Writer(FileWriter):
    """Writes `events/t x y p`, `ms_to_idx` and `t_offset` as DSEC has them; `images` with the times of their exposures.

    `events/t` counts from `t_offset`, the first time; `ms_to_idx` has, for each millisecond from there, the first event
    that is not before it. Gaps, the index of frames, row delays, triggers, inertial samples, the transfer of pixels and
    a clock that begins again have no place: they are counted in `lost`.
    """

    def __init__(self, path: Path, geometry: Geometry, source: SourceInfo) -> None:
        """Create the file."""
        h5py = require_sdk("h5py", package="h5py", extra="hdf5")
        super().__init__(path)
        self._next_index = 0
        self._epoch = 0
        self._offset_us: int | None = None
        self._count_of_ms: list[NDArray[np.int64]] = []
        self._next_ms = 0
        self._events = self._frames = 0
        self._pending: list[EventBatch] = []
        self._file: Any = h5py.File(self._output.file, "w")
        self._file.attrs["width"], self._file.attrs["height"] = geometry.width, geometry.height
        for name, kind in _COLUMNS.items():
            self._file.create_dataset(f"events/{name}", (0,), kind, maxshape=(None,), chunks=(_CHUNK,), **_PACKED)
        if source.has_frames:
            shape = (geometry.height, geometry.width, *((3,) if geometry.channels == 3 else ()))
            self._file.create_dataset(
                "images", (0, *shape), np.uint8, maxshape=(None, *shape), chunks=(1, *shape), **_PACKED
            )
            for name in ("images_ts", "exposure_start_us", "exposure_end_us"):
                self._file.create_dataset(name, (0,), np.int64, maxshape=(None,), chunks=(1024,))

    def write(self, packet: SourcePacket) -> None:
        """Append a packet.

        Raises:
            SourceError: the disk is full or went away.
        """
        try:
            if isinstance(packet, EventBatch):
                self._add_events(packet)
            elif isinstance(packet, Frame):
                self._add_frame(packet)
            elif isinstance(packet, ImuBatch):
                self._count(True, "inertial samples")
            elif isinstance(packet, WallClock):
                self._count(True, "clock records, which say the wall time of its times")
            elif isinstance(packet, Trigger | Gap):
                self._count(True, "triggers" if isinstance(packet, Trigger) else "gaps")
            else:
                raise TypeError(f"a {type(packet).__name__} is no packet")
        except OSError as error:
            raise SourceError(f"cannot write the recording {self._output.part}: {error}") from error

    def abandon(self) -> None:
        """Stop without finishing: the `.part` file stays, but is no HDF5 yet."""
        self._file.close()
        super().abandon()

    def _complete(self) -> None:
        self._flush()
        marks = np.concatenate(self._count_of_ms) if self._count_of_ms else np.zeros(1, np.int64)
        self._file["ms_to_idx"] = marks.astype(np.uint64)
        self._file["t_offset"] = np.int64(self._offset_us or 0)
        self._file.close()

    def _add_events(self, batch: EventBatch) -> None:
        if not len(batch):
            return
        self._count(batch.epoch != self._epoch, "a clock that began again")
        self._epoch = batch.epoch
        self._pending.append(batch)
        if sum(map(len, self._pending)) >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        """Append what is pending to the columns, and the milliseconds that it passes to the index."""
        if not self._pending:
            return
        batch, self._pending = EventBatch.joined(self._pending), []
        self._offset_us = int(batch.t_us[0]) if self._offset_us is None else self._offset_us
        t_us = batch.t_us - self._offset_us
        start, self._events = self._events, self._events + len(batch)
        for name, column in zip(_COLUMNS, (t_us, batch.x, batch.y, batch.p), strict=True):
            dataset = self._file[f"events/{name}"]
            dataset.resize(self._events, axis=0)
            dataset[start:] = column
        milliseconds = np.arange(self._next_ms, max(self._next_ms, int(t_us[-1]) // 1000 + 1))
        self._count_of_ms.append(start + np.searchsorted(t_us, milliseconds * 1000))
        self._next_ms += milliseconds.size

    def _add_frame(self, frame: Frame) -> None:
        self._count(frame.index != self._next_index, "holes in the count of frames")
        self._next_index = frame.index + 1
        self._count(frame.row_delay_us != 0, "row delays")
        self._count(frame.transfer != "linear", "transfers of pixels that are not linear")
        n, self._frames = self._frames, self._frames + 1
        start_us, end_us = frame.exposure_start_us, frame.exposure_end_us
        exposure = (start_us, end_us) if frame.exposure_known else _UNKNOWN
        pixels = frame.pixels[..., 0] if frame.pixels.shape[2] == 1 else frame.pixels
        values = {
            "images": pixels,
            "images_ts": start_us,
            "exposure_start_us": exposure[0],
            "exposure_end_us": exposure[1],
        }
        for name, value in values.items():
            self._file[name].resize(self._frames, axis=0)
            self._file[name][n] = value
