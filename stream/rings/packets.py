"""The bytes of one packet inside a ring: a fixed header, then the columns of events, or a frame's pixels, or a text.

Little-endian, C layout, 8-byte aligned, so that a C++ or Rust process can read it with a struct:

    0    header, 96 bytes: `Header` below
    96   EVENTS: int64 t_us[N], uint16 x[N], uint16 y[N], uint8 p[N]
         FRAME:  frame head, 64 bytes; then pixels uint8 [H, W, C]
         GAP:    int64 t0_us, int64 t1_us; then the reason, UTF-8
         CLOCK:  int64 device_us, int64 wall_ns, double rate, uncertainty_us (NaN = not known), rate_uncertainty
         END:    nothing
"""

from __future__ import annotations

import json
import math
import struct
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.source import SourceInfo
from nire.errors import RingError
from nire.types import EventBatch, Frame, Gap, Geometry, Packet, WallClock
from stream.blocks import EVENT_BYTES, Blocks

Bytes = NDArray[np.uint8]
MAGIC = 0x4E495245  # "NIRE"
VERSION = 1

_HEADER = struct.Struct("<IHHqQQQQqqqIIq8x")
_FRAME = struct.Struct("<qqqdIIIBB18x")
_SPAN = struct.Struct("<qq")
_CLOCK = struct.Struct("<qqddd")
HEADER_BYTES = 96
FRAME_HEAD_BYTES = 64
_TRANSFERS = ("linear", "srgb")


class Kind(IntEnum):
    """What a packet holds."""

    EVENTS = 1
    FRAME = 2
    GAP = 3
    END = 4
    CLOCK = 5


class Header(NamedTuple):
    """What every packet says about itself.

    Attributes:
        kind: of `Kind`.
        life: of the producer, host monotonic ns at its start; grows with every restart.
        serial: counts the packets of a life over both rings, from 0: their common order.
        sequence: counts the packets of a life in this ring, from 0: a hole is a loss.
        total: events (or frames) of this life that went into this ring before this packet.
        items: events (or frames) in this packet.
        start_us: device time at which the packet takes over: the watermark of the one before.
        watermark_us: no later packet holds an event before this time.
        received_ns: host monotonic time at which the data reached the producer.
        epoch: life of the device clock within this life of the producer.
        body: bytes after the header.
    """

    kind: Kind
    life: int
    serial: int
    sequence: int
    total: int
    items: int
    start_us: int
    watermark_us: int
    received_ns: int
    epoch: int
    body: int


def event_packet_bytes(events: int) -> int:
    """Size of a packet of so many events."""
    return HEADER_BYTES + EVENT_BYTES * events


def frame_packet_bytes(geometry: Geometry) -> int:
    """Size of a packet with one frame."""
    return HEADER_BYTES + FRAME_HEAD_BYTES + geometry.width * geometry.height * geometry.channels


def body_bytes(packet: Packet) -> int:
    """Size of what follows the header."""
    if isinstance(packet, EventBatch):
        return EVENT_BYTES * len(packet)
    if isinstance(packet, Frame):
        return FRAME_HEAD_BYTES + packet.pixels.size
    if isinstance(packet, WallClock):
        return _CLOCK.size
    return _SPAN.size + len(packet.reason.encode())


def write(into: Bytes, header: Header, packet: Packet | None) -> None:
    """Write a packet into memory of `HEADER_BYTES + header.body` bytes; None has no body (END)."""
    _HEADER.pack_into(into, 0, MAGIC, VERSION, header.kind, *header[1:10], 0, header.body)
    body = into[HEADER_BYTES:]
    if isinstance(packet, EventBatch):
        t_us, x, y, p = _columns(body, len(packet))
        t_us[:] = packet.t_us
        x[:] = packet.x
        y[:] = packet.y
        p[:] = packet.p
    elif isinstance(packet, Frame):
        _write_frame(body, packet)
    elif isinstance(packet, Gap):
        _SPAN.pack_into(body, 0, packet.t0_us, packet.t1_us)
        body[_SPAN.size :] = np.frombuffer(packet.reason.encode(), np.uint8)
    elif isinstance(packet, WallClock):
        doubt_us = math.nan if packet.uncertainty_us is None else packet.uncertainty_us
        _CLOCK.pack_into(body, 0, packet.device_us, packet.wall_ns, packet.rate, doubt_us, packet.rate_uncertainty)


def read(data: Bytes, blocks: Blocks) -> tuple[Header, Packet | None]:
    """Read a packet; the memory can be given back at once.

    Args:
        data: its bytes.
        blocks: where its events go.

    Returns:
        (header, packet): the packet is None for END.

    Raises:
        RingError: the memory holds no packet of this version.
    """
    header = read_header(data)
    return header, read_copy(header, copy(header, data[HEADER_BYTES : HEADER_BYTES + header.body], blocks))


def copy(header: Header, body: Bytes, blocks: Blocks) -> EventBatch | Bytes:
    """Copy what follows a header, once, whatever it is: events into blocks, else bytes for `read_copy`."""
    if header.kind != Kind.EVENTS:
        return body.copy()
    t_us, x, y, p = _columns(body, header.items)
    return blocks.hold(EventBatch(t_us, x, y, p, header.watermark_us, header.received_ns, header.epoch))


def read_copy(header: Header, body: EventBatch | Bytes) -> Packet | None:
    """Read what `copy` gave; None for END."""
    if isinstance(body, EventBatch):
        return body
    if header.kind == Kind.FRAME:
        return _read_frame(body, header)
    if header.kind == Kind.GAP:
        t0_us, t1_us = _SPAN.unpack_from(body)
        return Gap(t0_us, t1_us, body[_SPAN.size :].tobytes().decode(), header.received_ns, header.epoch)
    if header.kind == Kind.CLOCK:
        device_us, wall_ns, rate, doubt_us, rate_uncertainty = _CLOCK.unpack_from(body)
        known_us = None if math.isnan(doubt_us) else doubt_us
        return WallClock(device_us, wall_ns, rate, known_us, rate_uncertainty, header.received_ns, header.epoch)
    return None


def read_header(data: Bytes, size: int | None = None) -> Header:
    """Read what a packet says about itself.

    Args:
        data: the packet, or as much of it as the header.
        size: bytes of the whole packet; None = of `data`.

    Raises:
        RingError: the memory holds no packet of this version.
    """
    if len(data) < HEADER_BYTES:
        raise RingError(f"a packet of {len(data)} bytes is shorter than its header of {HEADER_BYTES} bytes")
    magic, version, kind, *fields, _reserved, body = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise RingError(
            f"the ring holds packets of another program or version (magic {magic:#x}, version {version}; expected "
            f"{MAGIC:#x}, {VERSION}). Stop the other program or choose another source.name"
        )
    there = (len(data) if size is None else size) - HEADER_BYTES
    if there < body:
        raise RingError(f"the packet claims {body} bytes after its header, {there} are there")
    return Header._make((Kind(kind), *fields, body))


def pack_info(info: SourceInfo, life: int) -> bytes:
    """Write down what is known of a source and which producer life says so, as JSON."""
    geometry = info.geometry
    return json.dumps(
        {
            "life": life,
            "name": info.name,
            "width": geometry.width,
            "height": geometry.height,
            "channels": geometry.channels,
            "bayer": geometry.bayer,
            "has_frames": info.has_frames,
            "live": info.live,
            "duration_us": info.duration_us,
            "time_offset_us": info.time_offset_us,
        }
    ).encode()


def unpack_info(data: bytes) -> tuple[SourceInfo, int]:
    """Read what `pack_info` wrote: (info, life)."""
    values = json.loads(data)
    geometry = Geometry(values["width"], values["height"], values["channels"], values["bayer"])
    info = SourceInfo(
        values["name"],
        geometry,
        values["has_frames"],
        values["live"],
        values["duration_us"],
        values["time_offset_us"],
    )
    return info, values["life"]


def _columns(body: Bytes, n: int) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], Bytes]:
    return (
        body[: 8 * n].view(np.int64),
        body[8 * n : 10 * n].view(np.uint16),
        body[10 * n : 12 * n].view(np.uint16),
        body[12 * n : 13 * n],
    )


def _write_frame(body: Bytes, frame: Frame) -> None:
    height, width, channels = frame.pixels.shape
    _FRAME.pack_into(
        body,
        0,
        frame.index,
        frame.exposure_start_us,
        frame.exposure_end_us,
        frame.row_delay_us,
        height,
        width,
        channels,
        _TRANSFERS.index(frame.transfer),
        frame.exposure_known,
    )
    body[FRAME_HEAD_BYTES:].reshape(frame.pixels.shape)[:] = frame.pixels


def _read_frame(body: Bytes, header: Header) -> Frame:
    index, start_us, end_us, row_delay_us, height, width, channels, transfer, known = _FRAME.unpack_from(body)
    return Frame(
        index,
        body[FRAME_HEAD_BYTES:].reshape(height, width, channels),
        start_us,
        end_us,
        row_delay_us,
        "srgb" if _TRANSFERS[transfer] == "srgb" else "linear",
        header.received_ns,
        header.epoch,
        bool(known),
    )
