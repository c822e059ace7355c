"""What a session is fed from a source: cleaned, without extras, to the end or to the first damage, which is kept."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.packets.cleaning import CleaningCounters, cleaned
from drivers.packets.wall_clock import wall_timed
from drivers.source import Source
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, Packet, WallClock
from stream.config_sections import SourceConfig


class Reading:
    """Packets of one source, once.

    Attributes:
        damage: why the recording ended early; None as long as it did not. It is kept, not raised: what came before it
            is to be answered first.
    """

    def __init__(self, source: Source, settings: SourceConfig, *, needs_frames: bool) -> None:
        """Prepare.

        Args:
            source: entered.
            settings: row delay and exposure of frames that do not say, and how late packets come.
            needs_frames: whether a source without a single frame is an error.
        """
        self.damage: RecordingDamaged | None = None
        self._name = source.info.name
        self._needs_frames = needs_frames
        self._cleaned = cleaned(source, row_delay_us=settings.row_delay_us, exposure_us=settings.exposure_us)
        self._packets = wall_timed(self._cleaned, source.info, arrival_us=settings.least_arrival_us)

    @property
    def counters(self) -> CleaningCounters:
        """What was put right so far."""
        return self._cleaned.counters

    def __iter__(self) -> Iterator[Packet]:
        """Yield events, frames, gaps and clock records.

        Raises:
            SourceError: a recording turns out to hold no frames, and they are needed; or whatever the source raises.
        """
        frames = events = 0
        try:
            for packet in self._packets:
                if isinstance(packet, EventBatch):
                    events += len(packet)
                elif isinstance(packet, Frame):
                    frames += 1
                elif not isinstance(packet, Gap | WallClock):
                    continue
                yield packet
        except RecordingDamaged as error:
            self.damage = error
            return
        if frames == events == 0:
            raise SourceError(f"{self._name} gives neither events nor frames: there is nothing to re-expose")
        if frames == 0 and self._needs_frames:
            raise SourceError(
                f"{self._name} holds {events} events but no frames; re-exposure starts from frames. Use a recording "
                "with frames, or reconstructor.backend = 'events_only', which guesses from events alone"
            )
