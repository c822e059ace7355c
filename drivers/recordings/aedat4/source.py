"""AEDAT4 recordings (iniVation DV): events, frames, IMU and triggers, merged in time."""

from __future__ import annotations

import itertools
import logging
import struct
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from drivers.pixels import Depth, as_rgb, check_bits, in_place
from drivers.recording_file import RecordingFile
from drivers.recordings.aedat4.file import (
    EVENT,
    MAGIC,
    FrameRecord,
    Header,
    Places,
    Stream,
    Unpacker,
    find_packets,
    frame_record,
    read_header,
)
from drivers.recordings.aedat4.flatbuffer import Table
from drivers.recordings.aedat4.lookahead import LookAhead
from drivers.recordings.aedat4.missing_events import silent_spans
from drivers.sdk.dv_packets import EDGES, GRAVITY_MPS2
from drivers.source import SourceInfo
from drivers.source import Stream as ListedStream
from nire.colour import PATTERNS, BayerPattern, demosaiced
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, ImuBatch, SourcePacket, Trigger

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_LEARNED = 8  # frames by which the depth of all is told


def recognise(head: bytes, path: Path) -> bool:
    """Tell from its first bytes whether a file is an AEDAT4 recording."""
    return head.startswith(MAGIC)


def open_source(
    path: str | Path,
    gaps: Literal["auto", "none"] = "auto",
    bayer: BayerPattern | Literal["none"] = "none",
    *,
    camera: str = "",
    bits: int = 0,
) -> Aedat4Source:
    """Open a recording; it is checked on entry.

    Args:
        path: the file.
        gaps: "auto": where not a single event lies between two exposures although they are dense inside, events are
            taken for not recorded there, and a `Gap` says so (a heuristic: `missing_events.py`). "none": never.
        bayer: "RGGB", "BGGR", "GRBG" or "GBRG" for a colour camera: its events lie behind that filter, and one-channel
            frames (recorded with the colour mode "original") are its mosaic. "none": one-channel frames are gray.
            Frames that were recorded in colour are RGB anyway.
        camera: name of the camera whose streams are read, as `info` lists them; "" = that of the first events.
        bits: that frames of 16 bits use, 8 to 16; 0 = by the largest value.

    Raises:
        ConfigError: another word for `gaps` or `bayer`, or another number of bits.
    """
    check_bits("aedat4", bits)
    if gaps not in ("auto", "none"):
        raise ConfigError(f"aedat4: gaps = {gaps!r}, expected 'auto' or 'none'")
    if bayer not in ("none", *PATTERNS):
        raise ConfigError(f"aedat4: bayer = {bayer!r}, expected none, {', '.join(PATTERNS)}")
    pattern = None if bayer == "none" else bayer
    return Aedat4Source(Path(path), find_gaps=gaps == "auto", bayer=pattern, camera=camera, bits=bits)


class Aedat4Source(RecordingFile):
    """The source: one cursor per kind of packet reads the file, so that any order of packets in it is merged."""

    def __init__(
        self, path: Path, *, find_gaps: bool, bayer: BayerPattern | None = None, camera: str = "", bits: int = 0
    ) -> None:
        """Remember the path."""
        super().__init__(path)
        self._camera = camera
        self._bits = bits
        self._depth = Depth(bits)
        self._size = (0, 0)
        self._bayer: BayerPattern | None = bayer
        self._find_gaps = find_gaps
        self._header: Header | None = None
        self._places: Places | None = None
        self._chosen: dict[str, Stream] = {}
        self._damage: RecordingDamaged | None = None

    def _look(self) -> SourceInfo:
        """Read the header and the first packets.

        Raises:
            SourceError: no such file, no AEDAT4, or neither events nor frames in it.
            RecordingDamaged: the header is broken.
        """
        try:
            with open(self.path, "rb") as file:
                self._header = read_header(file, self.path)
                self._places = find_packets(file, self._header, self.path)
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror}") from error
        self._choose()
        events, frames = self._chosen.get("EVTS"), self._chosen.get("FRME")
        sized = events or frames
        if sized is None:
            kinds = ", ".join(sorted(s.kind for s in self._header.streams.values())) or "no streams"
            raise SourceError(f"{self.path} has neither events nor frames ({kinds}): nothing can be re-exposed")
        size = self._size = (sized.width, sized.height)
        self._depth = Depth(self._bits)
        first = self._first_frame() if frames else None
        if not all(size) and first is not None:
            size = (first.pixels.shape[1], first.pixels.shape[0])
        if not all(size):
            raise RecordingDamaged(f"{self.path}: the header does not say the size of the sensor", len(MAGIC))
        return SourceInfo(
            name=f"{sized.camera} ({self.path.name})" if sized.camera else self.path.name,
            geometry=Geometry(*size, channels=1 if first is None else first.pixels.shape[2], bayer=self._bayer or ""),
            has_frames=first is not None,
            duration_us=self._duration_us(),
            streams=self._streams(),
            found=self._depth.found,
            unix_time=True,
        )

    def _play(self) -> Iterator[SourcePacket]:
        """Yield packets in time order; frames and the rest as soon as the events have passed them.

        Raises:
            RecordingDamaged: after everything that lies before the damage in the file.
        """
        self._damage = None
        frames = LookAhead(self._frames(), lambda frame: frame.exposure_end_us, self._is_sound)
        others = LookAhead(self._others(), _time_us, self._is_sound)
        watermark_us: int | None = None
        for packet in self._events_and_gaps(frames):
            yield packet
            if isinstance(packet, EventBatch):
                watermark_us = packet.watermark_us
                yield from frames.until(watermark_us)
                yield from others.until(watermark_us)
        for frame in frames.until(np.inf):
            # No events any more: a heartbeat at the end of each exposure keeps the promise of order.
            watermark_us = max(frame.exposure_end_us, watermark_us or frame.exposure_end_us)
            yield EventBatch.empty(watermark_us)
            yield frame
        yield from others.until(np.inf)
        if self._damage is not None:
            raise self._damage

    def _first_frame(self) -> Frame | None:
        """Look at the first frames: a stream of frames may be announced and stay empty."""
        records = self._decoded("FRME", frame_record)
        near = [record for _, record in itertools.islice(records, _LEARNED)]
        for record in near:
            self._depth.see(record.pixels)
        self._depth.decide(path=self.path)
        return self._frame(0, near[0]) if near else None

    def _choose(self) -> None:
        """Take the streams of one camera, of each kind the first: that of the events, or the one that is set."""
        assert self._header is not None  # entered
        streams = sorted(self._header.streams.values(), key=lambda stream: stream.number)
        leading = next((s for kind in ("EVTS", "FRME") for s in streams if s.kind == kind), None)
        camera = self._camera or (leading.camera if leading else "")
        if self._camera and not any(stream.camera == camera for stream in streams):
            cameras = ", ".join(sorted({stream.camera for stream in streams if stream.camera})) or "no names of cameras"
            raise SourceError(f"{self.path} has {cameras}; source.settings.camera = {camera!r} is none of them")
        self._chosen = {}
        for stream in streams:
            if not camera or not stream.camera or stream.camera == camera:
                self._chosen.setdefault(stream.kind, stream)
        for stream in streams:
            if self._chosen.get(stream.kind) != stream and stream.kind in ("EVTS", "FRME"):
                _log.warning(
                    "%s: stream %d (%s of %s) is not read; see source.settings.camera",
                    self.path,
                    stream.number,
                    stream.kind,
                    stream.camera or "a camera without a name",
                )

    def _streams(self) -> tuple[ListedStream, ...]:
        """All streams, for people."""
        assert self._header is not None  # entered
        return tuple(
            ListedStream(
                f"{number} {stream.camera}".rstrip(),
                f"{stream.kind} {stream.width} x {stream.height}" if stream.width else stream.kind,
                self._chosen.get(stream.kind) == stream,
            )
            for number, stream in sorted(self._header.streams.items())
        )

    def _payloads(self, *kinds: str) -> Iterator[tuple[str, int, memoryview]]:
        """(kind, position, payload) of all packets of these kinds; stops at the damage that any cursor met first.

        A payload is there until the next one is asked for.
        """
        header, places = self._header, self._places
        assert header is not None  # entered
        assert places is not None
        kind_of = {self._chosen[kind].number: kind for kind in kinds if kind in self._chosen}
        if not kind_of:
            return
        unpacker = Unpacker(header.compression)
        with open(self.path, "rb") as file:
            for position, number, size in places:
                if number not in kind_of:
                    continue
                if not self._is_sound(position):
                    return
                try:
                    data = unpacker.payload(file, position, size)
                except ValueError as error:
                    self._broke(self._damaged(position, error))
                    return
                yield kind_of[number], position, data
        if places.damage is not None:
            self._broke(places.damage)

    def _decoded(self, kind: str, decode: Callable[[memoryview], _T]) -> Iterator[tuple[int, _T]]:
        for _, position, data in self._payloads(kind):
            try:
                value = decode(data)
            except (ValueError, IndexError, struct.error, SourceError) as error:
                if isinstance(error, SourceError) and self._info is None:
                    raise SourceError(f"{self.path}: {error}") from error
                self._broke(self._damaged(position, error))
                return
            yield position, value

    def _damaged(self, position: int, error: Exception) -> RecordingDamaged:
        return RecordingDamaged(
            f"{self.path}: the packet at byte {position} is damaged: {error}; all before was delivered", position
        )

    def _is_sound(self, position: int) -> bool:
        """Tell whether a packet lies before the first damage that any cursor met."""
        return self._damage is None or position < (self._damage.position or 0)

    def _broke(self, error: RecordingDamaged) -> None:
        """Remember the first damage in the file."""
        if self._is_sound(error.position or 0):
            self._damage = error

    def _batches(self) -> Iterator[EventBatch]:
        for _, batch in self._decoded("EVTS", _event_batch):
            if batch is not None:
                yield batch

    def _events_and_gaps(self, frames: LookAhead[Frame]) -> Iterator[EventBatch | Gap]:
        if not self._find_gaps or "FRME" not in self._chosen:
            return self._batches()
        return silent_spans(self._batches(), frames.peek_until)

    def _frames(self) -> Generator[tuple[int, Frame], None, None]:
        for index, (position, record) in enumerate(self._decoded("FRME", frame_record)):
            yield position, self._frame(index, record)

    def _frame(self, index: int, record: FrameRecord) -> Frame:
        """Choose the exposure: start and end where written (old dialect: `t` may be the middle), else t and length."""
        plain = self._depth.to_8(record.pixels, path=self.path)
        pixels = demosaiced(plain, self._bayer) if plain.ndim == 2 and self._bayer else as_rgb(plain, "bgr")
        pixels = in_place(pixels, record.at, self._size)
        start_us, end_us = record.exposure_start_us, record.exposure_end_us
        known = 0 < start_us <= end_us
        if not known:
            start_us, end_us, known = record.t_us, record.t_us + max(0, record.exposure_us), record.exposure_us > 0
        return Frame(index, pixels, start_us, end_us, exposure_known=known)

    def _others(self) -> Iterator[tuple[int, Trigger | ImuBatch]]:
        for kind, position, data in self._payloads("IMUS", "TRIG"):
            try:
                table = Table.root(data)
                samples = _imu(table) if kind == "IMUS" else None
                edges = list(_triggers(table)) if kind == "TRIG" else []
            except (ValueError, IndexError, struct.error) as error:
                self._broke(self._damaged(position, error))
                return
            if samples is not None:
                yield position, samples
            yield from ((position, edge) for edge in edges)

    def _duration_us(self) -> int | None:
        """From the first to the last event (or frame), by the packets' framing; None for a damaged file."""
        header, places = self._header, self._places
        assert header is not None  # entered
        assert places is not None
        stream = self._chosen.get("EVTS") or self._chosen["FRME"]
        if places.damage is not None or stream.number not in places.streams:
            return None
        first, last = places.streams.index(stream.number), len(places.streams) - 1
        last -= places.streams[::-1].index(stream.number)
        unpacker = Unpacker(header.compression)
        times_us = []
        try:
            with open(self.path, "rb") as file:
                for packet, event in ((first, 0), (last, -1)):
                    data = unpacker.payload(file, places.positions[packet], places.sizes[packet])
                    if stream.kind == "FRME":
                        times_us.append(frame_record(data).t_us)
                    else:
                        times_us.append(int(Table.root(data).array(0, EVENT)["t"][event]))
        except (ValueError, IndexError, struct.error):
            return None
        return times_us[1] - times_us[0]


def _event_batch(data: memoryview) -> EventBatch | None:
    """Events as columns; None where there are none."""
    events = Table.root(data).array(0, EVENT)
    if not events.size:
        return None
    t_us, x, y, p = (events[name].copy() for name in ("t", "x", "y", "p"))
    # Recorders that lost their clock write unsorted packets; cleaning, not reading, decides about that.
    return EventBatch(t_us, x, y, (p != 0).view(np.uint8), int(t_us[-1]))


def _imu(table: Table) -> ImuBatch | None:
    samples = list(table.tables(0))
    if not samples:
        return None
    values = np.array([[sample.number(field, "<f") for field in range(2, 8)] for sample in samples], np.float32)
    return ImuBatch(
        np.array([sample.number(0, "<q") for sample in samples], np.int64),
        values[:, :3] * np.float32(GRAVITY_MPS2),  # the file has g
        np.deg2rad(values[:, 3:]),  # and degrees a second
    )


def _triggers(table: Table) -> Iterator[Trigger]:
    for item in table.tables(0):
        kind = EDGES.get(int(item.number(1, "<B")))
        if kind is not None:
            yield Trigger(int(item.number(0, "<q")), *kind)


def _time_us(packet: Trigger | ImuBatch) -> int:
    return packet.t_us if isinstance(packet, Trigger) else int(packet.t_us[-1])
