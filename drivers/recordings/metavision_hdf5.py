"""Metavision's HDF5 recordings: events and trigger edges, where h5py finds the filter that they are compressed by."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from drivers.hdf5_kind import is_metavision
from drivers.recording_file import RecordingFile
from drivers.settings import checked_size
from drivers.source import SourceInfo, require_sdk
from nire.errors import RecordingDamaged, SourceError
from nire.install import pip_install
from nire.types import EventBatch, Geometry, SourcePacket, Trigger

READS_APART = True
"""The library in C that reads these files can crash over damaged bytes."""
_ECF = 36559  # number of the filter in HDF5's registry
_PIECE = 1 << 16
_FIELDS = ("t", "x", "y", "p")


def recognise(head: bytes, path: Path) -> bool:
    """Tell from the groups of an HDF5 file whether Metavision wrote it; no where h5py is missing."""
    return is_metavision(head, path)


def missing_sdk() -> str:
    """What is not installed: "" or how to get it."""
    try:
        importlib.import_module("h5py")
    except ImportError:
        return f"h5py: {pip_install('hdf5')}"
    return ""


def open_source(path: str | Path, width: int = 0, height: int = 0) -> MetavisionHdf5Source:
    """Open a recording; it is checked on entry, the filter by reading the first event.

    Args:
        path: the file.
        width, height: of the sensor, pixels; 0 = as the file says.

    Raises:
        ConfigError: only one of width and height is set, or one is negative.
    """
    return MetavisionHdf5Source(Path(path), checked_size("metavision_hdf5", width, height))


class MetavisionHdf5Source(RecordingFile):
    """The source. Memory holds 65,536 events and as many edges at a time."""

    def __init__(self, path: Path, size: tuple[int, int] | None) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._size = size
        self._file: Any = None

    def _look(self) -> SourceInfo:
        """Open, and read the first and last event.

        Raises:
            SdkMissing: h5py is not installed.
            SourceError: no such file, another layout, no size, or the filter ECF is missing: the message says how to
                get it.
        """
        h5py = require_sdk("h5py", package="h5py", extra="hdf5")
        try:
            self._file = h5py.File(self.path, "r")
        except (FileNotFoundError, PermissionError) as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror}") from error
        except OSError as error:
            raise RecordingDamaged(f"cannot read {self.path} as HDF5: {error}", 0) from error
        events = self._dataset("CD/events", _FIELDS)
        if events is None:
            raise SourceError(f"{self.path} has no events in CD/events: Metavision did not write it")
        self._check_filter(events, h5py)
        ends = [int(events[row]["t"]) for row in (0, -1)] if len(events) else []
        return SourceInfo(
            name=self.path.name,
            geometry=self._geometry(),
            has_frames=False,
            duration_us=ends[1] - ends[0] if ends else None,
        )

    def close(self) -> None:
        """Close; safe to call twice."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _play(self) -> Iterator[SourcePacket]:
        """Yield batches; edges after the batch in which they lie.

        Raises:
            RecordingDamaged: a chunk cannot be read; with the number of the first event that is missing.
        """
        events = self._dataset("CD/events", _FIELDS)
        edges = self._edges()
        edge = next(edges, None)
        watermark_us: int | None = None
        for rows in self._pieces(events):
            t_us, x, y, p = (np.ascontiguousarray(rows[name]) for name in _FIELDS)
            watermark_us = int(t_us[-1])
            polarity = (p > 0).view(np.uint8)
            yield EventBatch(t_us.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), polarity, watermark_us)
            while edge is not None and edge.t_us <= watermark_us:
                yield edge
                edge = next(edges, None)
        while edge is not None:
            if watermark_us is None or edge.t_us > watermark_us:
                watermark_us = edge.t_us
                yield EventBatch.empty(watermark_us)
            yield edge
            edge = next(edges, None)

    def _edges(self) -> Iterator[Trigger]:
        for rows in self._pieces(self._dataset("EXT_TRIGGER/events", ("t", "id", "p"))):
            for t_us, channel, rising in zip(rows["t"].tolist(), rows["id"].tolist(), rows["p"].tolist(), strict=True):
                yield Trigger(t_us, channel, rising > 0)

    def _pieces(self, dataset: Any) -> Iterator[Any]:
        for start in range(0, 0 if dataset is None else len(dataset), _PIECE):
            try:
                yield dataset[start : start + _PIECE]
            except OSError as error:
                raise RecordingDamaged(
                    f"{self.path}: {dataset.name} cannot be read from row {start}: {error}; all before was delivered",
                    start,
                ) from error

    def _dataset(self, name: str, fields: tuple[str, ...]) -> Any:
        """Find a table with these fields; None where there is none."""
        dataset = self._file.get(name)
        names = getattr(getattr(dataset, "dtype", None), "names", None) or ()
        return dataset if set(fields) <= set(names) and dataset.ndim == 1 else None

    def _check_filter(self, events: Any, h5py: Any) -> None:
        filters = [
            events.id.get_create_plist().get_filter(n)[0] for n in range(events.id.get_create_plist().get_nfilters())
        ]
        if _ECF in filters and not h5py.h5z.filter_avail(_ECF):
            raise SourceError(
                f"{self.path} is compressed by Prophesee's filter ECF ({_ECF}), which h5py does not find. To fix it: "
                "install Metavision SDK or build github.com/prophesee-ai/hdf5_ecf, and set HDF5_PLUGIN_PATH to the "
                f"folder of its plugin (now: {os.environ.get('HDF5_PLUGIN_PATH', 'not set')}); or record RAW"
            )

    def _geometry(self) -> Geometry:
        written = self._file.attrs.get("geometry", "")
        text = written.decode(errors="replace") if isinstance(written, bytes) else str(written)
        found = re.fullmatch(r"\s*(\d{1,5})\s*x\s*(\d{1,5})\s*", text)
        size = self._size or ((int(found[1]), int(found[2])) if found else None)
        if size is None or not all(size):
            raise SourceError(
                f"{self.path} does not say the sensor's size (attribute geometry: {written!r}). To fix it, set width "
                "and height in [source.settings]"
            )
        return Geometry(*size)
