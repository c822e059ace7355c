"""From a recording of any kind to a file of a kind that is written: one pass, cleaned, nothing dropped in silence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from drivers.packets.cleaning import cleaned
from drivers.packets.playback import packet_span_us
from drivers.packets.wall_clock import wall_timed
from drivers.writing import part_of, whole_or_nothing, writer_for
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, ImuBatch, SourcePacket, WallClock
from stream.config import Config, load_config
from stream.options import LogLevel, Overrides, Recording, configure_log, leave
from stream.progress import progress_bar
from stream.sources import SourceOrder, open_source


def command(
    recording: Recording,
    out: Annotated[Path, typer.Argument(help="File to write: NAME.nire, .aedat4, .mcap or .h5.", show_default=False)],
    overrides: Overrides = None,
    log_level: LogLevel = "WARNING",
) -> None:
    """Write a recording of any kind as another kind; a video becomes frames and simulated events."""
    configure_log(log_level)
    leave(convert(load_config(None, overrides or ()), recording, out, Console()))


def convert(config: Config, recording: Path, out: Path, console: Console) -> int:
    """Read a recording once and write it as the format that the suffix of `out` names.

    Frames and events pass the same cleaning as in a run. A damaged recording is converted up to its damage: the file
    is finished, then the damage is said. After any other error nothing is left; Ctrl-C finishes what there is.

    Args:
        config: its section `source` is used.
        recording: of any kind that a driver recognises.
        out: file to write; an existing one is replaced when the new one is whole.
        console: gets one line about what was written, and one about what the format could not hold.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: no format has that suffix, or the recording itself would be written over.
        SourceError: the recording cannot be read or gives nothing, or the file cannot be written.
        RecordingDamaged: after everything before the damage was written.
    """
    format_ = writer_for(out)
    for written in (out, part_of(out)):
        if written.exists() and recording.exists() and written.samefile(recording):
            raise ConfigError(f"{written} is the recording itself, and would be written over: name another file")
    damage: RecordingDamaged | None = None
    with open_source(config.source, SourceOrder(recording, speed=math.inf)) as source:
        info = source.info
        packets = wall_timed(
            cleaned(source, row_delay_us=config.source.row_delay_us, exposure_us=config.source.exposure_us), info
        )
        count = _Count()
        begun = format_.create_writer(out, info.geometry, info)
        with whole_or_nothing(begun) as writer, progress_bar("converting") as bar:
            try:
                for packet in packets:
                    writer.write(packet)
                    bar.at(count.add(packet), info.duration_us)
            except RecordingDamaged as error:
                damage = error
            if count.is_empty and damage is None:
                raise SourceError(f"{recording} gives neither events nor frames: there is nothing to write")
    console.print(f"{out}: {count.text()}, {out.stat().st_size / 1e6:.1f} MB", soft_wrap=True, highlight=False)
    if writer.lost:
        lost = ", ".join(f"{what} ({times})" for what, times in writer.lost.items())
        console.print(f"the format has no place for: {lost}", soft_wrap=True, highlight=False)
    if damage is not None:
        raise damage
    return 0


class _Count:
    """What was written so far."""

    def __init__(self) -> None:
        self._events = self._frames = self._others = 0
        self._first_us: int | None = None
        self._span_us = 0

    def add(self, packet: SourcePacket) -> float:
        """Count a packet; returns the device time that has passed since the first one."""
        if isinstance(packet, EventBatch):
            self._events += len(packet)
        elif isinstance(packet, Frame):
            self._frames += 1
        elif not isinstance(packet, WallClock):
            self._others += len(packet.t_us) if isinstance(packet, ImuBatch) else 1
        first_us, last_us = packet_span_us(packet)
        self._first_us = first_us if self._first_us is None else self._first_us
        self._span_us = max(self._span_us, last_us - self._first_us)
        return self._span_us

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was written but promises and gaps."""
        return not (self._events or self._frames or self._others)

    def text(self) -> str:
        """Say it in words."""
        return f"{self._events:,} events, {self._frames} frames, {self._others} others"
