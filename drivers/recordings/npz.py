"""Recordings repacked as .npz: frames and sorted events in named arrays, in three layouts. Read as a whole."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.array_files import array_names, is_npz, read_arrays
from drivers.recording_file import RecordingFile
from drivers.source import Found, SourceInfo
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, SourcePacket

_EVENTS = ("t_us", "x", "y", "p")
# Arrays that tell a layout; the first that fits.
_LAYOUTS = {
    "exposed": ("frames", "frame_id", "has_events", "exposure_start_us", "exposure_end_us", *_EVENTS),
    "estimated": ("frames", "frame_t_us_estimated", *_EVENTS),
    "continuous": ("frames", "exposure_start_us", "exposure_end_us", *_EVENTS),
}
_PACKET_US = 5000

_log = logging.getLogger(__name__)


def recognise(head: bytes, path: Path) -> bool:
    """Tell from the names of its arrays whether a zip file is one of the layouts."""
    return head.startswith(b"PK") and _layout(array_names(path)) is not None


def open_source(path: str | Path) -> NpzSource:
    """Open a recording of one of the layouts; it is read into memory on entry.

    Layout "exposed" (`exposure_start_us`, `exposure_end_us`, `frame_id`, `has_events`): events exist only inside
    exposures, so a `Gap` lies between them. Layout "estimated" (`frame_t_us_estimated`): the exposure is unknown, the
    first frame has another brightness and is left out. Layout "continuous" (`exposure_start_us`, `exposure_end_us`
    without `has_events`): exposures are known and events go on between them; `frame_id` may count the frames.
    """
    return NpzSource(Path(path))


class NpzSource(RecordingFile):
    """The source."""

    def __init__(self, path: Path) -> None:
        """Remember the path."""
        super().__init__(path)
        self._arrays: dict[str, NDArray[Any]] = {}
        self._frames: list[Frame] = []
        self._gaps: list[Gap] = []

    def _look(self) -> SourceInfo:
        """Read and check everything.

        Raises:
            SourceError: no such file, or another layout.
            RecordingDamaged: the archive is broken, or its arrays do not fit each other.
        """
        if self._info is not None:
            return self._info
        arrays = _load(self.path)
        layout = _layout(arrays)
        if layout is None:
            raise SourceError(f"{self.path} has the arrays {', '.join(sorted(arrays))}: no layout that is known")
        _check(self.path, arrays)
        late = int(np.count_nonzero(np.diff(arrays["t_us"]) < 0))
        if late:
            order = np.argsort(arrays["t_us"], kind="stable")
            arrays |= {name: arrays[name][order] for name in _EVENTS}
        self._arrays = {name: arrays[name] for name in _EVENTS}
        height, width = (int(n) for n in arrays["frames"].shape[1:3])
        if layout == "estimated":
            self._frames = _estimated(arrays)
            _log.info("%s: frame 0 is left out, its brightness differs", self.path)
        else:
            self._frames, self._gaps = _exposed(self.path, arrays)
        t_us = arrays["t_us"]
        return SourceInfo(
            name=self.path.name,
            geometry=Geometry(width, height),
            has_frames=bool(self._frames),
            duration_us=int(t_us[-1] - t_us[0]) if t_us.size else None,
            found=(Found("order of events", "sorted", f"the times went back {late} times"),)[: late > 0],
        )

    def close(self) -> None:
        """Let go of the arrays."""
        self._info = None
        self._arrays, self._frames, self._gaps = {}, [], []

    def _play(self) -> Iterator[SourcePacket]:
        """Yield events in pieces of 5 ms; gaps and frames as soon as the events have passed them."""
        frames, gaps = iter(self._frames), iter(self._gaps)
        frame, gap = next(frames, None), next(gaps, None)
        watermark_us: int | None = None
        for batch in self._batches():
            while gap is not None and gap.t0_us < batch.watermark_us:
                yield gap
                gap = next(gaps, None)
            yield batch
            watermark_us = batch.watermark_us
            while frame is not None and frame.exposure_end_us <= watermark_us:
                yield frame
                frame = next(frames, None)
        while frame is not None:
            watermark_us = max(frame.exposure_end_us, watermark_us or frame.exposure_end_us)
            yield EventBatch.empty(watermark_us)
            yield frame
            frame = next(frames, None)

    def _batches(self) -> Iterator[EventBatch]:
        """Cut at multiples of 5 ms and at gaps, so that no piece reaches over one."""
        t_us = self._arrays["t_us"]
        if not t_us.size:
            return
        marks = np.arange(t_us[0] // _PACKET_US + 1, t_us[-1] // _PACKET_US + 1) * _PACKET_US
        marks = np.union1d(marks, [time for gap in self._gaps for time in (gap.t0_us, gap.t1_us)]).astype(np.int64)
        start = 0
        for mark, stop in zip(marks, np.searchsorted(t_us, marks), strict=True):
            if stop > start:
                yield self._part(start, int(stop), int(mark))
                start = int(stop)
        if start < t_us.size:
            yield self._part(start, t_us.size, int(t_us[-1]))

    def _part(self, start: int, stop: int, watermark_us: int) -> EventBatch:
        t_us, x, y, p = (self._arrays[name][start:stop] for name in _EVENTS)
        return EventBatch(t_us, x, y, p, watermark_us)


def _layout(names: Iterable[str]) -> str | None:
    there = set(names)
    return next((layout for layout, arrays in _LAYOUTS.items() if there.issuperset(arrays)), None)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    if not is_npz(path):
        raise SourceError(f"{path} is no npz recording: it does not start as a zip archive does")
    known = {name for arrays in _LAYOUTS.values() for name in arrays}
    arrays = read_arrays(path, [name for name in array_names(path) if name in known])
    types = {"t_us": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
    return arrays | {name: np.ascontiguousarray(arrays[name], dtype) for name, dtype in types.items() if name in arrays}


def _check(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    lengths = {name: arrays[name].shape for name in _EVENTS}
    frames = arrays["frames"]
    if arrays["p"].size and arrays["p"].max() > 1:
        raise RecordingDamaged(f"{path}: polarities go up to {arrays['p'].max()}, expected 0 and 1")
    if len(set(lengths.values())) != 1 or len(lengths["t_us"]) != 1:
        raise RecordingDamaged(f"{path}: the event columns have different lengths: {lengths}")
    if frames.ndim not in (3, 4) or frames.dtype != np.uint8:
        raise RecordingDamaged(f"{path}: frames are {frames.dtype} {frames.shape}, expected uint8 (N, H, W)")
    for name in ("exposure_start_us", "exposure_end_us", "frame_id", "has_events", "frame_t_us_estimated"):
        if name in arrays and arrays[name].shape != frames.shape[:1]:
            raise RecordingDamaged(f"{path}: {name} has shape {arrays[name].shape} for {frames.shape[0]} frames")


def _exposed(path: Path, arrays: Mapping[str, NDArray[Any]]) -> tuple[list[Frame], list[Gap]]:
    """Frames with their exposures; where the layout says which of these have events, a gap wherever none is."""
    frames: list[Frame] = []
    gaps: list[Gap] = []
    unknown = 0
    t_us = arrays["t_us"]
    covered_us: int | None = None
    for row in range(arrays["frames"].shape[0]):
        start_us, end_us = int(arrays["exposure_start_us"][row]), int(arrays["exposure_end_us"][row])
        if start_us < 0 or end_us < start_us:
            unknown += 1  # without any time it cannot be placed; its index stays a hole
            continue
        index = int(arrays["frame_id"][row]) if "frame_id" in arrays else row
        frames.append(Frame(index, _pixels(arrays["frames"][row]), start_us, end_us))
        if "has_events" not in arrays or not arrays["has_events"][row]:
            continue
        if covered_us is not None and start_us > covered_us and t_us.size:
            before = int(np.searchsorted(t_us, start_us)) - 1
            last_us = int(t_us[max(0, before)])  # events may carry the very end's stamp
            gaps.append(Gap(max(covered_us, last_us + 1), start_us, "this layout has no events between exposures"))
        covered_us = end_us
    if unknown:
        _log.warning("%s: %d frames have no time of exposure and are left out", path, unknown)
    return frames, gaps


def _estimated(arrays: Mapping[str, NDArray[Any]]) -> list[Frame]:
    times = arrays["frame_t_us_estimated"]
    return [
        Frame(row, _pixels(arrays["frames"][row]), int(times[row]), int(times[row]), exposure_known=False)
        for row in range(1, times.shape[0])
    ]


def _pixels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image if image.ndim == 3 else image[..., None])
