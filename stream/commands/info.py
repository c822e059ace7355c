"""What a recording holds: streams, duration, rates, exposures, and what calibration makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from drivers.packets.cleaning import CleaningCounters, cleaned
from drivers.source import SourceInfo
from nire.calibrate import GOOD_MISFIT, Calibrator
from nire.errors import RecordingDamaged, SourceError
from nire.types import Calibration, ContentWindow, EventBatch, Frame, Gap
from stream.config import load_config
from stream.config_sections import SourceConfig
from stream.counts import Census
from stream.images import write_png
from stream.options import Overrides, Recording
from stream.progress import progress_bar
from stream.session.learning import Learning, make_calibrator
from stream.sources import SourceOrder, open_source
from stream.windows.assembler import WindowAssembler
from stream.windows.cut import Cut

_PICTURE_US = 10_000
_PICTURE_SHARE = 0.06  # events before and after the middle, of the pixels: a busy scene would hide the frame
_PICTURE_WINDOW = 8  # of the first windows the last: the time offset is known by then
_DATED_US = (946_684_800_000_000, 4_102_444_800_000_000)  # from 2000 to 2100: no camera has been on for so long


def command(
    recording: Recording,
    picture: Annotated[
        Path | None, typer.Option(help="Also write a PNG: events over a frame.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Read it by the section source of this config.", show_default=False)
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Tell what a recording holds: streams, duration, rates, exposure, estimated thresholds and time offset."""
    describe(recording, picture, Console(), load_config(config, overrides or ()).source)


class _Windows:
    """Cuts the packets into pairs of frames, calibrates on them, keeps one of the first for the picture."""

    def __init__(self, info: SourceInfo, calibrator: Calibrator) -> None:
        self.picture: NDArray[np.uint8] | None = None
        self._assembler = WindowAssembler(info.geometry, Cut("pair", margin_us=0))
        self._learning = Learning(calibrator, self._assembler)
        self._seen = 0

    def push(self, packet: EventBatch | Frame | Gap) -> None:
        self._assembler.push(packet)
        self._look_at(self._assembler.complete())

    def finish(self) -> None:
        self._look_at(self._assembler.finish())

    def _look_at(self, windows: Iterator[ContentWindow]) -> None:
        for window in windows:
            self._seen += 1
            calibration = self._learning.calibrated(window, at_once=True).calibration
            if window.frames and len(window.events) and (self.picture is None or self._seen < _PICTURE_WINDOW):
                self.picture = _events_over(window.frames[0], window.events, calibration)
            self._assembler.release()


def describe(
    recording: Path, picture: Path | None, console: Console, source_config: SourceConfig | None = None
) -> None:
    """Read a recording once, print a table and, if asked, write a picture of events over a frame.

    Args:
        recording: file or folder of any kind that a driver recognises.
        picture: PNG to write; None = none.
        console: to print to.
        source_config: how to read it, for recordings that do not say all themselves; None = by the content alone.

    Raises:
        SourceError: it cannot be opened, or gives nothing; a damaged one is described up to the damage, then reported.
        ConfigError: the picture cannot be written.
    """
    wanted = source_config or SourceConfig()
    damage: RecordingDamaged | None = None
    with open_source(wanted, SourceOrder(recording, speed=math.inf)) as source, progress_bar("reading") as bar:
        info = source.info
        packets = cleaned(source, row_delay_us=wanted.row_delay_us, exposure_us=wanted.exposure_us)
        calibrator = make_calibrator(wanted, info)
        census, windows = Census(), _Windows(info, calibrator)
        try:
            for packet in packets:
                census.add(packet)
                if isinstance(packet, EventBatch | Frame | Gap):
                    bar.at(census.last_us - census.first_us, info.duration_us)
                    windows.push(packet)
        except RecordingDamaged as error:
            damage = error
        windows.finish()
    table = _table(recording, info, census, wanted, packets.counters)
    if census.frames > 1 and census.events:
        _add_calibration(table, calibrator, _how_offset(calibrator, wanted, info))
    console.print(table)
    if picture is not None:
        _write_picture(picture, windows.picture, console)
    if damage is not None:
        raise damage
    if census.is_empty:
        raise SourceError(f"{recording} gives neither events nor frames, edges or inertial samples")


def _table(
    recording: Path, info: SourceInfo, census: Census, wanted: SourceConfig, cleaning: CleaningCounters
) -> Table:
    seconds = max(0.0, census.last_us - census.first_us) / 1e6
    table = Table(title=str(recording), show_header=False, title_justify="left")
    table.add_row("sensor", f"{info.geometry.width} x {info.geometry.height}, {info.name}")
    began = f", from {_moment_text(census.first_us)}" if math.isfinite(census.first_us) else ": nothing in it"
    table.add_row("duration", f"{seconds:.3f} s{began}")
    share = 100 * census.brighter / max(1, census.events)
    rate = census.events / max(seconds, 1e-9) / 1e6
    table.add_row("events", f"{census.events:,}, {rate:.2f} M/s, {share:.0f} % brighter")
    table.add_row("frames", _frames_text(census, wanted))
    if census.frames:
        table.add_row("light", _light_text(census))
    table.add_row("gaps", _gaps_text(census))
    for stream in info.streams:
        table.add_row("read" if stream.taken else "not read", f"{stream.name} ({stream.kind})")
    for found in info.found:
        table.add_row(found.what, f"{found.value} ({found.why})")
    table.add_row("triggers", _triggers_text(census))
    table.add_row("IMU samples", _imu_text(census))
    if len(census.epochs) > 1:
        table.add_row("clock", f"began again {len(census.epochs) - 1} times")
    # Unknown exposures are told beside the frames.
    counters = {name: count for name, count in asdict(cleaning).items() if name not in ("events", "exposures_unknown")}
    put_right = [f"{name.replace('_', ' ')} {count:,}" for name, count in counters.items() if count]
    if put_right:
        table.add_row("put right", ", ".join(put_right))
    return table


def _add_calibration(table: Table, calibrator: Calibrator, how_offset: str) -> None:
    found = calibrator.current
    how = "estimated" if calibrator.knows_thresholds else "default: too few events between usable frames"
    thresholds = f"brighter {found.threshold_positive:.3f}, darker {found.threshold_negative:.3f} ({how})"
    table.add_row("contrast thresholds", thresholds)
    table.add_row("events minus frames", f"{found.time_offset_us:.0f} us ({how_offset})")
    hot = found.hot_pixels
    table.add_row("hot pixels", str(0 if hot is None else int(hot.sum())))
    if found.misfit is not None:
        fits = "like a good sensor's" if found.misfit <= GOOD_MISFIT else "far less than a good sensor's"
        table.add_row("misfit", f"{100 * found.misfit:.0f} % of changed pixels (events tell what frames show {fits})")


def _how_offset(calibrator: Calibrator, wanted: SourceConfig, info: SourceInfo) -> str:
    """Say where the time offset comes from."""
    if wanted.time_offset_us != "auto":
        return "set by source.time_offset_us"
    if info.time_offset_us is not None:
        return "the recording says so"
    if not calibrator.knows_offset:
        why = "too many events are missing in each pair of frames" if calibrator.knows_thresholds else "too few events"
        return f"not estimated: {why}"
    return "estimated" if calibrator.current.time_offset_us else "no other explains the frames clearly better"


def _moment_text(t_us: float) -> str:
    """Device time, and the date where it can be counted from 1970."""
    text = f"{t_us:.0f} us"
    if not _DATED_US[0] <= t_us < _DATED_US[1]:
        return text
    return f"{text} ({datetime.fromtimestamp(t_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC)"


def _frames_text(census: Census, wanted: SourceConfig) -> str:
    if census.frames == 0:
        return "none: edi and neural need frames, events_only makes a guess without"
    rate = lost = ""
    span_us = census.last_mid_us - census.first_mid_us
    if census.frames > 1 and span_us > 0:
        rate = f", {1e6 * (census.frames + census.losses.frames - 1) / span_us:.2f} Hz"
    if census.losses.frames:
        lost = f", {census.losses.frames} lost between them"
    return f"{census.frames}{rate}, {_exposures_text(census, wanted)}{lost}"


def _exposures_text(census: Census, wanted: SourceConfig) -> str:
    remedy = "taken for instants; source.exposure_us sets it"
    if census.exposures_unknown == census.frames:
        return f"exposure unknown: {remedy}"
    ends_ms = [f"{exposure_us / 1000:g}" for exposure_us in (min(census.exposures_us), max(census.exposures_us))]
    text = f"exposure {' .. '.join(dict.fromkeys(ends_ms))} ms"
    if wanted.exposure_us != "recorded":
        return f"{text} (source.exposure_us, where the recording has none)"
    return f"{text} (unknown for {census.exposures_unknown}: {remedy})" if census.exposures_unknown else text


def _light_text(census: Census) -> str:
    colours = " and ".join("gray" if channels == 1 else "RGB" for channels in sorted(census.channels))
    delays = sorted(census.row_delays_us)
    ends = sorted({delays[0], delays[-1]})
    shutter = "global shutter" if ends == [0] else f"row delay {' .. '.join(f'{delay:g}' for delay in ends)} us"
    return f"{colours}, {' and '.join(sorted(census.transfers))}, {shutter}"


def _gaps_text(census: Census) -> str:
    if not census.gaps:
        return "0"
    reasons = "; ".join(f"{reason} ({count})" for reason, count in census.reasons.most_common(3))
    return f"{census.gaps}, {census.gaps_us / 1000:.1f} ms together: {reasons}"


def _triggers_text(census: Census) -> str:
    total = sum(count.rising + count.falling for count in census.triggers.values())
    channels = "; ".join(
        f"channel {channel}: {count.rising:,} rising, {count.falling:,} falling"
        + (f", {count.rate_hz:.2f} Hz" if count.rate_hz else "")
        for channel, count in sorted(census.triggers.items())
    )
    return f"{total:,}" + (f" ({channels})" if channels else "")


def _imu_text(census: Census) -> str:
    span_us = census.last_imu_us - census.first_imu_us
    return f"{census.imu:,}" + (f", {1e6 * (census.imu - 1) / span_us:.0f} Hz" if span_us > 0 else "")


def _events_over(frame: Frame, events: EventBatch, calibration: Calibration) -> NDArray[np.uint8]:
    """Paint the events around the middle of a frame's exposure over it: red brighter, blue darker."""
    mid_us = frame.mid_us + calibration.time_offset_us
    low, middle, high = np.searchsorted(events.t_us, (mid_us - _PICTURE_US / 2, mid_us, mid_us + _PICTURE_US / 2))
    most = int(_PICTURE_SHARE * frame.pixels.shape[0] * frame.pixels.shape[1])
    low, high = max(low, middle - most), min(high, middle + most)
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
