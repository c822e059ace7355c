"""What a recording holds: streams, duration, rates, exposures, and what calibration makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from drivers.hygiene import cleaned
from drivers.source import SourceInfo
from nire.calibrate import DEFAULT_THRESHOLD, Calibrator
from nire.errors import RecordingDamaged
from nire.types import Calibration, ContentWindow, EventBatch, Frame, Gap, ImuBatch, SourcePacket, Trigger
from stream.assembler import WindowAssembler
from stream.config import SourceConfig
from stream.progress import progress_bar
from stream.sinks import write_png
from stream.sources import SourceOrder, open_source

_PICTURE_US = 10_000
_PICTURE_WINDOW = 8  # of the first windows the last: the time offset is known by then


@dataclass(slots=True)
class _Census:
    """Running totals of one pass over a recording; bounded memory."""

    events: int = 0
    brighter: int = 0
    first_us: float = math.inf
    last_us: float = -math.inf
    frames: int = 0
    first_mid_us: float = 0.0
    last_mid_us: float = 0.0
    exposures_us: set[int] = field(default_factory=set)
    gaps: int = 0
    triggers: int = 0
    imu: int = 0

    def add(self, packet: SourcePacket) -> None:
        if isinstance(packet, EventBatch):
            self._add_events(packet)
        elif isinstance(packet, Frame):
            self._add_frame(packet)
        elif isinstance(packet, Gap):
            self.gaps += 1
        elif isinstance(packet, Trigger):
            self.triggers += 1
        elif isinstance(packet, ImuBatch):
            self.imu += len(packet.t_us)

    def _add_events(self, batch: EventBatch) -> None:
        if len(batch) == 0:
            return
        self.events += len(batch)
        self.brighter += int(batch.p.sum())
        self.first_us = min(self.first_us, float(batch.t_us[0]))
        self.last_us = max(self.last_us, float(batch.t_us[-1]))

    def _add_frame(self, frame: Frame) -> None:
        self.first_mid_us = frame.mid_us if self.frames == 0 else self.first_mid_us
        self.last_mid_us = frame.mid_us
        self.frames += 1
        self.first_us, self.last_us = min(self.first_us, frame.first_us), max(self.last_us, frame.last_us)
        if len(self.exposures_us) < 1000:
            self.exposures_us.add(frame.exposure_end_us - frame.exposure_start_us)


class _Windows:
    """Cuts the packets into pairs of frames, calibrates on them, keeps one of the first for the picture."""

    def __init__(self, info: SourceInfo) -> None:
        self.picture: NDArray[np.uint8] | None = None
        self._calibrator = Calibrator()
        self._assembler = WindowAssembler(info.geometry, policy="pair", margin_us=0, reach_us=0, step_us=2000)
        self._seen = 0

    @property
    def calibration(self) -> Calibration:
        return self._calibrator.current

    def push(self, packet: EventBatch | Frame | Gap) -> None:
        self._assembler.guard_us = self._calibrator.guard_us
        self._assembler.push(packet)
        self._look_at(self._assembler.complete())

    def finish(self) -> None:
        self._look_at(self._assembler.finish())

    def _look_at(self, windows: Iterator[ContentWindow]) -> None:
        for window in windows:
            self._seen += 1
            is_new_pair = len(window.frames) == 2 and window.frames[0].index != window.frames[1].index
            if is_new_pair and self._calibrator.wants():
                self._calibrator.observe(window.frames, window.events, window.gaps)
            if window.frames and len(window.events) and (self.picture is None or self._seen < _PICTURE_WINDOW):
                self.picture = _events_over(window.frames[0], window.events, self.calibration)
            self._assembler.release()


def describe(recording: Path, picture: Path | None, console: Console) -> None:
    """Read a recording once, print a table and, if asked, write a picture of events over a frame.

    Raises:
        SourceError: it cannot be opened; a damaged one is described up to the damage, then reported.
        ConfigError: the picture cannot be written.
    """
    damage: RecordingDamaged | None = None
    with open_source(SourceConfig(), SourceOrder(recording, speed=math.inf)) as source, progress_bar("reading") as bar:
        info = source.info
        census, windows = _Census(), _Windows(info)
        try:
            for packet in cleaned(source):
                census.add(packet)
                if isinstance(packet, EventBatch | Frame | Gap):
                    bar.at(census.last_us - census.first_us, info.duration_us)
                    windows.push(packet)
        except RecordingDamaged as error:
            damage = error
        windows.finish()
    console.print(_table(recording, info, census, windows.calibration))
    if picture is not None:
        _write_picture(picture, windows.picture, console)
    if damage is not None:
        raise damage


def _table(recording: Path, info: SourceInfo, census: _Census, calibration: Calibration) -> Table:
    seconds = max(0.0, census.last_us - census.first_us) / 1e6
    table = Table(title=str(recording), show_header=False, title_justify="left")
    table.add_row("sensor", f"{info.geometry.width} x {info.geometry.height}, {info.name}")
    began = f", from {census.first_us:.0f} us" if math.isfinite(census.first_us) else ": nothing in it"
    table.add_row("duration", f"{seconds:.3f} s{began}")
    share = 100 * census.brighter / max(1, census.events)
    rate = census.events / max(seconds, 1e-9) / 1e6
    table.add_row("events", f"{census.events:,}, {rate:.2f} M/s, {share:.0f} % brighter")
    table.add_row("frames", _frames_text(census))
    table.add_row("gaps", str(census.gaps))
    table.add_row("triggers", str(census.triggers))
    table.add_row("IMU samples", str(census.imu))
    if census.frames > 1 and census.events:
        positive, negative = calibration.threshold_positive, calibration.threshold_negative
        how = (
            "estimated" if (positive, negative) != (DEFAULT_THRESHOLD, DEFAULT_THRESHOLD) else "default: too few events"
        )
        table.add_row("contrast thresholds", f"brighter {positive:.3f}, darker {negative:.3f} ({how})")
        table.add_row("events minus frames", f"{calibration.time_offset_us:.0f} us ({how})")
        hot = calibration.hot_pixels
        table.add_row("hot pixels", str(0 if hot is None else int(hot.sum())))
    return table


def _frames_text(census: _Census) -> str:
    if census.frames == 0:
        return "none: re-exposure by edi needs frames, the backend events_only guesses without"
    exposures = sorted(census.exposures_us)
    exposure = (
        f"{exposures[0] / 1000:g}" if len(exposures) == 1 else f"{exposures[0] / 1000:g} .. {exposures[-1] / 1000:g}"
    )
    if census.frames < 2:
        return f"1, exposure {exposure} ms"
    rate_hz = 1e6 * (census.frames - 1) / (census.last_mid_us - census.first_mid_us)
    return f"{census.frames}, {rate_hz:.2f} Hz, exposure {exposure} ms"


def _events_over(frame: Frame, events: EventBatch, calibration: Calibration) -> NDArray[np.uint8]:
    """Paint the events around the middle of a frame's exposure over it: red brighter, blue darker."""
    mid_us = frame.mid_us + calibration.time_offset_us
    low, high = np.searchsorted(events.t_us, (mid_us - _PICTURE_US / 2, mid_us + _PICTURE_US / 2))
    gray = frame.pixels.mean(axis=2)
    gray *= 200 / max(1.0, float(np.percentile(gray, 99)))
    image = np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    for polarity, colour in ((1, (255, 70, 60)), (0, (70, 130, 255))):
        chosen = events.p[low:high] == polarity
        image[events.y[low:high][chosen], events.x[low:high][chosen]] = colour
    return image


def _write_picture(picture: Path, image: NDArray[np.uint8] | None, console: Console) -> None:
    if image is None:
        console.print("no picture: it takes a frame with events around it")
        return
    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    write_png(picture, np.asarray(large, np.uint8))
    console.print(f"events over a frame: {picture}")
