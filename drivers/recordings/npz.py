"""Recordings repacked as .npz: frames and sorted events in named arrays, in three layouts. Read as a whole."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from drivers.array_files import array_names, is_npz, read_arrays
from drivers.pixels import Depth, check_bits
from drivers.recording_file import RecordingFile
from drivers.sense import LONGEST_US, Polarity, are_exposures, brighter, check_choice, coordinate
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
# What layouts write where a time is not known.
_UNKNOWN_US = -1

_log = logging.getLogger(__name__)


def recognise(head: bytes, path: Path) -> bool:
    """Tell from the names of its arrays whether a zip file is one of the layouts."""
    return head.startswith(b"PK") and _layout(array_names(path)) is not None


def open_source(path: str | Path, *, polarity: Polarity = "auto", bits: int = 0) -> NpzSource:
    """Open a recording of one of the layouts; it is read into memory on entry.

    Layout "exposed" (`exposure_start_us`, `exposure_end_us`, `frame_id`, `has_events`): events exist only inside
    exposures, so a `Gap` lies between them. Layout "estimated" (`frame_t_us_estimated`): the exposure is unknown, the
    first frame has another brightness and is left out. Layout "continuous" (`exposure_start_us`, `exposure_end_us`
    without `has_events`): exposures are known and events go on between them; `frame_id` may count the frames.

    Args:
        path: the file. Times are whole microseconds, of any type; frames are [N, H, W] or [N, H, W, C] in RGB.
        polarity: "auto" = 0 and 1, or -1 and 1; "positive" = above 0 is brighter; "inverted" = any other is.
        bits: that frames of 16 bits use, 8 to 16; 0 = by the largest value.

    Raises:
        ConfigError: a setting has no meaning.
    """
    check_choice("npz", "polarity", polarity, get_args(Polarity))
    check_bits("npz", bits)
    return NpzSource(Path(path), polarity, bits)


class NpzSource(RecordingFile):
    """The source."""

    def __init__(self, path: Path, polarity: Polarity = "auto", bits: int = 0) -> None:
        """Remember the path, and what is set."""
        super().__init__(path)
        self._polarity, self._bits = polarity, bits
        self._arrays: dict[str, NDArray[Any]] = {}
        self._frames: list[Frame] = []
        self._gaps: list[Gap] = []

    def _look(self) -> SourceInfo:
        """Read and check everything.

        Raises:
            SourceError: no such file, another layout, or values that are not what their names say.
            RecordingDamaged: the archive is broken, or its arrays do not fit each other.
        """
        if self._info is not None:
            return self._info
        arrays = _load(self.path)
        layout = _layout(arrays)
        if layout is None:
            raise SourceError(f"{self.path} has the arrays {', '.join(sorted(arrays))}: no layout that is known")
        _check(self.path, arrays)
        arrays |= _columns(self.path, arrays, self._polarity)
        depth = Depth(self._bits)
        arrays["frames"] = _in_8_bits(self.path, arrays["frames"], depth)
        late = int(np.count_nonzero(np.diff(arrays["t_us"]) < 0))
        if late:
            order = np.argsort(arrays["t_us"], kind="stable")
            arrays |= {name: arrays[name][order] for name in _EVENTS}
        self._arrays = {name: arrays[name] for name in _EVENTS}
        height, width, channels = (int(n) for n in arrays["frames"].shape[1:])
        if layout == "estimated":
            self._frames = _estimated(arrays)
            _log.info("%s: frame 0 is left out, its brightness differs", self.path)
        else:
            self._frames, self._gaps = _exposed(self.path, arrays)
        t_us = arrays["t_us"]
        return SourceInfo(
            name=self.path.name,
            geometry=Geometry(width, height, channels),
            has_frames=bool(self._frames),
            duration_us=int(t_us[-1] - t_us[0]) if t_us.size else None,
            found=(
                *depth.found,
                *(Found("order of events", "sorted", f"the times went back {late} times"),)[: late > 0],
            ),
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
    return read_arrays(path, [name for name in array_names(path) if name in known])


def _check(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    lengths = {name: arrays[name].shape for name in _EVENTS}
    frames = arrays["frames"]
    if len(set(lengths.values())) != 1 or len(lengths["t_us"]) != 1:
        raise RecordingDamaged(f"{path}: the event columns have different lengths: {lengths}")
    if frames.ndim not in (3, 4):
        raise RecordingDamaged(f"{path}: frames have the shape {frames.shape}, expected (N, H, W) or (N, H, W, 3)")
    for name in ("exposure_start_us", "exposure_end_us", "frame_id", "has_events", "frame_t_us_estimated"):
        if name in arrays and arrays[name].shape != frames.shape[:1]:
            raise RecordingDamaged(f"{path}: {name} has shape {arrays[name].shape} for {frames.shape[0]} frames")


def _columns(path: Path, arrays: Mapping[str, NDArray[Any]], polarity: Polarity) -> dict[str, NDArray[Any]]:
    """Give the columns of events and the times of frames in the types of `EventBatch` and `Frame`."""
    made: dict[str, NDArray[Any]] = {}
    for name in ("t_us", "exposure_start_us", "exposure_end_us", "frame_t_us_estimated"):
        if name in arrays:
            _require_whole(path, name, arrays[name], "microseconds, as the name says")
            made[name] = arrays[name].astype(np.int64)
    if "frame_id" in arrays:
        _require_whole(path, "frame_id", arrays["frame_id"], "numbers")
    for name in ("x", "y"):
        _require_whole(path, name, arrays[name], "pixels")
        made[name] = coordinate(arrays[name])
    try:
        made["p"] = brighter(arrays["p"], polarity)
    except ValueError as error:
        raise RecordingDamaged(f"{path}: {error}") from error
    return made


def _require_whole(path: Path, name: str, values: NDArray[Any], what: str) -> None:
    """Refuse values that a whole number of 64 bits cannot stand for."""
    if values.dtype.kind not in "biuf":
        raise SourceError(f"{path}: {name} is of type {values.dtype}, expected whole {what}")
    wrong = values > LONGEST_US
    if values.dtype.kind == "f":
        wrong |= ~(np.isfinite(values) & (values == np.rint(values)) & (values >= -LONGEST_US))
    if wrong.any():
        row = int(wrong.argmax())
        raise SourceError(f"{path}: {name} is {values[row]:.16g} in row {row}, expected whole {what}")


def _in_8_bits(path: Path, frames: NDArray[Any], depth: Depth) -> NDArray[np.uint8]:
    """Give frames [N, H, W] or [N, H, W, C] as uint8 [N, H, W, 1 or 3]."""
    if frames.ndim == 4 and frames.shape[3] not in (1, 3, 4):
        raise SourceError(f"{path}: frames have {frames.shape[3]} channels, expected 1 or, in RGB, 3")
    images = depth.to_8(frames, path=path)
    return np.ascontiguousarray(images[..., None] if images.ndim == 3 else images[..., :3])


def _exposed(path: Path, arrays: Mapping[str, NDArray[Any]]) -> tuple[list[Frame], list[Gap]]:
    """Frames with their exposures; where the layout says which of these have events, a gap wherever none is."""
    frames: list[Frame] = []
    gaps: list[Gap] = []
    unknown = 0
    t_us = arrays["t_us"]
    covered_us: int | None = None
    for row in range(arrays["frames"].shape[0]):
        start_us, end_us = int(arrays["exposure_start_us"][row]), int(arrays["exposure_end_us"][row])
        if start_us == _UNKNOWN_US or end_us < start_us:
            unknown += 1  # without any time it cannot be placed; its index stays a hole
            continue
        index = int(arrays["frame_id"][row]) if "frame_id" in arrays else row
        frames.append(Frame(index, arrays["frames"][row], start_us, end_us))
        if "has_events" not in arrays or not arrays["has_events"][row]:
            continue
        if covered_us is not None and start_us > covered_us and t_us.size:
            before = int(np.searchsorted(t_us, start_us)) - 1
            last_us = int(t_us[max(0, before)])  # events may carry the very end's stamp
            gaps.append(Gap(max(covered_us, last_us + 1), start_us, "this layout has no events between exposures"))
        covered_us = end_us
    _check_exposures(path, frames)
    if unknown:
        _log.warning("%s: %d frames have no time of exposure and are left out", path, unknown)
    return frames, gaps


def _check_exposures(path: Path, frames: Sequence[Frame]) -> None:
    """Refuse exposures that reach into the next one. One that comes twice, or out of order, is for `cleaned`."""
    spans = np.array([(frame.exposure_start_us, frame.exposure_end_us) for frame in frames], np.float64).reshape(-1, 2)
    starts, ends = np.unique(spans, axis=0).T
    if len(starts) and not are_exposures(starts, ends):
        late = int(np.argmax(np.append(ends[:-1] - starts[1:], 0)))
        raise SourceError(
            f"{path}: an exposure goes from {starts[late]:.0f} to {ends[late]:.0f} us, expected an end before the next "
            "one starts; are exposure_start_us and exposure_end_us those of the frames?"
        )


def _estimated(arrays: Mapping[str, NDArray[Any]]) -> list[Frame]:
    times = arrays["frame_t_us_estimated"]
    return [
        Frame(row, arrays["frames"][row], int(times[row]), int(times[row]), exposure_known=False)
        for row in range(1, times.shape[0])
    ]
