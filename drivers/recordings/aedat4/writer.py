"""Writes AEDAT4 recordings that DV opens: LZ4 packets of all four streams, and the data table at the end."""

from __future__ import annotations

from array import array
from html import escape
from pathlib import Path

import lz4.frame
import numpy as np

from drivers.packets.unix_time import UnixStamps
from drivers.recordings.aedat4.encode import (
    TABLE_POSITION_AT,
    TRIGGERS,
    encode_events,
    encode_frame,
    encode_header,
    encode_imu,
    encode_places,
    encode_triggers,
)
from drivers.recordings.aedat4.file import MAGIC, PACKET_PREFIX
from drivers.source import SourceInfo
from drivers.writing import FileWriter
from nire.types import EventBatch, Frame, Gap, Geometry, ImuBatch, SourcePacket, Trigger, WallClock

SUFFIX = ".aedat4"

_LZ4 = 1
_KINDS = ("EVTS", "FRME", "IMUS", "TRIG")
_NAMES = ("events", "frames", "imu", "triggers")
_PACKET_US = 10_000  # events of so long share a packet, as DV does it
_PACKET_EVENTS = 200_000
_STREAM = """<node name="{number}" path="/outInfo/{number}/">
<attr key="compression" type="string">LZ4</attr>
<attr key="originalModuleName" type="string">nire-live</attr>
<attr key="originalOutputName" type="string">{name}</attr>
<attr key="typeDescription" type="string">{name}</attr>
<attr key="typeIdentifier" type="string">{kind}</attr>
<node name="info" path="/outInfo/{number}/info/">{size}
<attr key="source" type="string">{source}</attr>
</node>
</node>
"""
_SIZE = """
<attr key="sizeX" type="int">{width}</attr>
<attr key="sizeY" type="int">{height}</attr>"""


def create_writer(path: Path, geometry: Geometry, source: SourceInfo) -> Aedat4Writer:
    """Begin a recording.

    Args:
        path: final name.
        geometry: of the sensor.
        source: what is recorded; its name becomes the camera's, its frames decide on the stream of frames.

    Raises:
        SourceError: the file cannot be made.
    """
    return Aedat4Writer(path, geometry, source)


class Aedat4Writer(FileWriter):
    """Writes packets; small event batches are gathered to 10 ms.

    Times are wall time, as DV has it, where the packets bring clock records, else device time.

    The format has no place for gaps, the index of frames, row delays, channels of triggers other than 0 to 3, and the
    transfer of pixels (its readers take them for linear). What was met of these is counted in `lost`. Memory grows by
    48 bytes a packet for the data table, about 10 MB in an hour of events and frames.
    """

    def __init__(self, path: Path, geometry: Geometry, source: SourceInfo) -> None:
        """Create the file and write its header."""
        super().__init__(path)
        self._next_index = 0
        self._unix = UnixStamps()
        self._places = array("q")  # six numbers a packet
        self._pending: list[EventBatch] = []
        self._pending_events = 0
        header = encode_header(_LZ4, _streams(geometry, source))
        self._position = len(MAGIC) + len(header)
        self._output.write(MAGIC, header)

    def write(self, packet: SourcePacket) -> None:
        """Append a packet.

        Raises:
            SourceError: the disk is full or went away.
        """
        packet = self._unix.restamped(packet)
        if isinstance(packet, EventBatch):
            self._events(packet)
        elif isinstance(packet, Frame):
            self._flush()  # a frame follows the events of its exposure, as it came
            self._count(packet.index != self._next_index, "holes in the count of frames")
            self._next_index = packet.index + 1
            self._count(packet.row_delay_us != 0, "row delays")
            self._count(packet.transfer != "linear", "transfers of pixels that are not linear")
            self._packet(1, encode_frame(packet), 1, packet.exposure_start_us, packet.exposure_start_us)
        elif isinstance(packet, ImuBatch):
            if len(packet.t_us):
                first_us, last_us = int(packet.t_us[0]), int(packet.t_us[-1])
                self._packet(2, encode_imu(packet), len(packet.t_us), first_us, last_us)
        elif isinstance(packet, Trigger):
            self._count((packet.channel, packet.rising) not in TRIGGERS, "channels of triggers")
            self._packet(3, encode_triggers([packet]), 1, packet.t_us, packet.t_us)
        elif isinstance(packet, Gap):
            self._count(True, "gaps")
        elif isinstance(packet, WallClock):
            pass  # it has its effect on the stamps
        else:
            raise TypeError(f"a {type(packet).__name__} is no packet")

    def _complete(self) -> None:
        """Write what is pending, and the data table."""
        self._flush()
        self._output.write(_compressed(encode_places(np.frombuffer(self._places, np.int64).reshape(-1, 6))))
        self._output.write_at(len(MAGIC) + TABLE_POSITION_AT, self._position.to_bytes(8, "little"))

    def _events(self, batch: EventBatch) -> None:
        if self._pending and (batch.epoch != self._pending[0].epoch or self._pending_events >= _PACKET_EVENTS):
            self._flush()
        if len(batch):
            self._pending.append(batch)
            self._pending_events += len(batch)
        if self._pending and batch.watermark_us - int(self._pending[0].t_us[0]) >= _PACKET_US:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        head, events = encode_events(self._pending)
        first_us, last_us = int(events["t"][0]), int(events["t"][-1])
        self._pending, self._pending_events = [], 0
        self._packet(0, head + events.tobytes(), len(events), first_us, last_us)

    def _packet(self, stream: int, flat: bytes, count: int, first_us: int, last_us: int) -> None:
        data = _compressed(flat)
        self._output.write(PACKET_PREFIX.pack(stream, len(data)), data)
        self._places.extend((stream, len(data), self._position + PACKET_PREFIX.size, count, first_us, last_us))
        self._position += PACKET_PREFIX.size + len(data)


def _compressed(data: bytes) -> bytes:
    # Blocks that do not depend on each other are the faster ones on events, at the same size.
    return bytes(lz4.frame.compress(data, block_linked=False))


def _streams(geometry: Geometry, source: SourceInfo) -> str:
    """The tree of streams in the header."""
    nodes = []
    for number, (kind, name) in enumerate(zip(_KINDS, _NAMES, strict=True)):
        if kind == "FRME" and not source.has_frames:
            continue
        size = _SIZE.format(width=geometry.width, height=geometry.height) if number < 2 else ""
        name_of_source = escape(source.name or "nire-live", quote=False)
        nodes.append(_STREAM.format(number=number, kind=kind, name=name, size=size, source=name_of_source))
    return f'<dv version="2.0">\n<node name="outInfo" path="/outInfo/">\n{"".join(nodes)}</node>\n</dv>\n'
