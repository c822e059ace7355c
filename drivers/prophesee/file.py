"""A file of Prophesee's words as a source: what RAW and DAT recordings have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.recording_file import RecordingFile
from drivers.source import SourceInfo
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Geometry, SourcePacket

if TYPE_CHECKING:
    from drivers.prophesee.evt import Encoding, EvtDecoder

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Layout:
    """What the beginning of a file says of the rest.

    Attributes:
        encoding: of the words.
        first_byte: where they begin.
        geometry: of the sensor.
        camera: name and number of the device, "" where not said.
    """

    encoding: Encoding
    first_byte: int
    geometry: Geometry
    camera: str = ""


class PropheseeFile(RecordingFile):
    """The source. Its memory does not depend on the file's length: 256 KiB are read at a time.

    What they decode to is at most 131,104 events at once. Batches end at multiples of 2 ms, or of 10 ms where events
    are few; edges come after the batch in which they lie. There are no frames.
    """

    def __init__(self, path: Path, look: Callable[[Path], Layout]) -> None:
        """Remember.

        Args:
            path: of the file.
            look: reads its beginning; raises SourceError where it cannot.
        """
        super().__init__(path)
        self._read_layout = look
        self._layout: Layout | None = None

    def _look(self) -> SourceInfo:
        """Read the header.

        Raises:
            SourceError: no such file, another kind of file, or nothing tells the sensor's size.
        """
        layout = self._read_layout(self.path)
        self._layout = layout
        return SourceInfo(
            name=f"{layout.camera} ({self.path.name})" if layout.camera else self.path.name,
            geometry=layout.geometry,
            has_frames=False,
            duration_us=_duration_us(self.path, layout),
        )

    def _play(self) -> Iterator[SourcePacket]:
        """Yield batches and edges in time order.

        Raises:
            RecordingDamaged: the file ends inside a word, or holds what the encoding does not know; with the position,
                after everything before it. An end between two words cannot be told from the recording's own end.
            SourceError: reading failed.
        """
        layout = self._layout
        assert layout is not None  # entered
        decoder = _decoder(self.path, layout, layout.first_byte)
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(layout.first_byte)
                while data := file.read(_CHUNK_BYTES):
                    yield from decoder.feed(data)
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror}") from error
        decoder.finish()


def read_at(path: Path, position: int, count: int) -> bytes:
    """Read bytes of a file, fewer at its end.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            file.seek(position)
            return file.read(count)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _duration_us(path: Path, layout: Layout) -> int | None:
    """From the first to the last event; None for EVT 3.0, whose clock begins again every 16.8 s, and for damage."""
    word_bytes = {"EVT3": 0, "EVT2": 4}.get(layout.encoding, 8)
    if not word_bytes:
        return None
    words = (os.path.getsize(path) - layout.first_byte) // word_bytes
    last_byte = layout.first_byte + max(0, words * word_bytes - _CHUNK_BYTES)
    first = _span_us(path, layout, layout.first_byte)
    last = _span_us(path, layout, last_byte)
    return last[1] - first[0] if first and last and last[1] >= first[0] else None


def _span_us(path: Path, layout: Layout, position: int) -> tuple[int, int] | None:
    """Times of the first and of the last event in some of the file's bytes."""
    decoder = _decoder(path, layout, position)
    try:
        packets = list(decoder.feed(read_at(path, position, _CHUNK_BYTES)))
    except RecordingDamaged:
        return None
    full = [packet for packet in packets if isinstance(packet, EventBatch) and len(packet)]
    return (int(full[0].t_us[0]), int(full[-1].t_us[-1])) if full else None


def _decoder(path: Path, layout: Layout, first_byte: int) -> EvtDecoder:
    """Make a decoder. It brings the compiler with it, which a list of drivers shall not wait for."""
    from drivers.prophesee.evt import EvtDecoder

    return EvtDecoder(layout.encoding, name=str(path), first_byte=first_byte)
