"""Packets to bytes and back: for our own recording format, and from process to process. No files here."""

from __future__ import annotations

import math
import struct

import numpy as np

from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket, Trigger, WallClock

HEAD = b"HEAD"
_EVENTS, _FRAME, _GAP, _TRIGGER, _IMU, _CLOCK = b"EVTS", b"FRAM", b"GAP_", b"TRIG", b"IMUB", b"CLCK"
# count, watermark, received_ns, epoch, earliest t, bytes of a time difference
_EVENT_HEAD = struct.Struct("<IqqIqB")
# index, start, end, row delay, received_ns, epoch, H, W, C, srgb, exposure known
_FRAME_HEAD = struct.Struct("<qqqdqIIIBBB")
_GAP_HEAD = struct.Struct("<qqqI")
# device time, wall time, rate, uncertainty (NaN = not known), uncertainty of the rate, received_ns, epoch
_CLOCK_BODY = struct.Struct("<qqdddqI")
_TRIGGER_BODY = struct.Struct("<qiB")
_TICKS = {2: "<u2", 4: "<u4", 8: "<u8"}


def encode_packet(packet: SourcePacket) -> tuple[bytes, bytes]:
    """Encode a packet.

    Returns:
        (kind, payload): four ASCII bytes, and the bytes of the chunk. Events cost 6.1 to 8.1 bytes each.
    """
    if isinstance(packet, EventBatch):
        return _EVENTS, _encode_events(packet)
    if isinstance(packet, Frame):
        height, width, channels = packet.pixels.shape
        head = _FRAME_HEAD.pack(
            packet.index,
            packet.exposure_start_us,
            packet.exposure_end_us,
            packet.row_delay_us,
            packet.received_ns,
            packet.epoch,
            height,
            width,
            channels,
            packet.transfer == "srgb",
            packet.exposure_known,
        )
        return _FRAME, head + np.ascontiguousarray(packet.pixels).tobytes()
    if isinstance(packet, Gap):
        head = _GAP_HEAD.pack(packet.t0_us, packet.t1_us, packet.received_ns, packet.epoch)
        return _GAP, head + packet.reason.encode()
    if isinstance(packet, WallClock):
        return _CLOCK, _encode_clock(packet)
    if isinstance(packet, Trigger):
        return _TRIGGER, _TRIGGER_BODY.pack(packet.t_us, packet.channel, packet.rising)
    samples = np.concatenate([packet.accelerometer_mps2, packet.gyroscope_radps], axis=1).astype("<f4")
    return _IMU, packet.t_us.astype("<i8").tobytes() + samples.tobytes()


def decode_packet(kind: bytes, payload: bytes) -> SourcePacket | None:
    """Decode a packet; None for a kind that this version does not know.

    Raises:
        ValueError: the payload does not fit its own head.
    """
    try:
        if kind == _EVENTS:
            return _decode_events(payload)
        if kind == _FRAME:
            return _decode_frame(payload)
        if kind == _GAP:
            t0_us, t1_us, received_ns, epoch = _GAP_HEAD.unpack_from(payload)
            return Gap(t0_us, t1_us, payload[_GAP_HEAD.size :].decode(), received_ns, epoch)
        if kind == _TRIGGER:
            t_us, channel, rising = _TRIGGER_BODY.unpack(payload)
            return Trigger(t_us, channel, bool(rising))
        if kind == _CLOCK:
            return _decode_clock(payload)
    except struct.error as error:
        raise ValueError(f"a chunk {kind!r} of {len(payload)} bytes is too short: {error}") from error
    if kind == _IMU:
        count = len(payload) // 32
        samples = np.frombuffer(payload, "<f4", 6 * count, 8 * count).astype(np.float32).reshape(count, 6)
        return ImuBatch(np.frombuffer(payload, "<i8", count).astype(np.int64), samples[:, :3], samples[:, 3:])
    return None


def _encode_clock(record: WallClock) -> bytes:
    return _CLOCK_BODY.pack(
        record.device_us,
        record.wall_ns,
        record.rate,
        math.nan if record.uncertainty_us is None else record.uncertainty_us,
        record.rate_uncertainty,
        record.received_ns,
        record.epoch,
    )


def _decode_clock(payload: bytes) -> WallClock:
    device_us, wall_ns, rate, doubt_us, rate_uncertainty, received_ns, epoch = _CLOCK_BODY.unpack(payload)
    if not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"a clock record says that a second of the device takes {rate} s")
    known_us = None if math.isnan(doubt_us) else doubt_us
    return WallClock(device_us, wall_ns, rate, known_us, rate_uncertainty, received_ns, epoch)


def _encode_events(batch: EventBatch) -> bytes:
    count = len(batch)
    first_us = int(batch.t_us.min()) if count else 0
    span_us = int(batch.t_us.max()) - first_us if count else 0
    size = 2 if span_us < 1 << 16 else 4 if span_us < 1 << 32 else 8
    return b"".join(
        (
            _EVENT_HEAD.pack(count, batch.watermark_us, batch.received_ns, batch.epoch, first_us, size),
            (batch.t_us - first_us).astype(_TICKS[size]).tobytes(),
            batch.x.astype("<u2").tobytes(),
            batch.y.astype("<u2").tobytes(),
            np.packbits(batch.p).tobytes(),
        )
    )


def _decode_events(payload: bytes) -> EventBatch:
    count, watermark_us, received_ns, epoch, first_us, size = _EVENT_HEAD.unpack_from(payload)
    expected = _EVENT_HEAD.size + count * (size + 4) + (count + 7) // 8
    if size not in _TICKS or len(payload) != expected:
        raise ValueError(f"{count} events need {expected} bytes, the chunk has {len(payload)}")
    at = _EVENT_HEAD.size
    t_us = np.frombuffer(payload, _TICKS[size], count, at).astype(np.int64) + first_us
    at += count * size
    # Copies, because the columns of the payload may lie at odd addresses.
    x = np.frombuffer(payload, "<u2", count, at).astype(np.uint16)
    y = np.frombuffer(payload, "<u2", count, at + 2 * count).astype(np.uint16)
    p = np.unpackbits(np.frombuffer(payload, np.uint8, offset=at + 4 * count), count=count)
    return EventBatch(t_us, x, y, p, watermark_us, received_ns, epoch)


def _decode_frame(payload: bytes) -> Frame:
    index, start, end, delay, received_ns, epoch, height, width, channels, srgb, known = _FRAME_HEAD.unpack_from(
        payload
    )
    if len(payload) != _FRAME_HEAD.size + height * width * channels:
        raise ValueError(f"a frame of {width} x {height} x {channels} does not fit a chunk of {len(payload)} bytes")
    pixels = np.frombuffer(payload, np.uint8, offset=_FRAME_HEAD.size).reshape(height, width, channels)
    return Frame(
        index,
        pixels,
        start,
        end,
        row_delay_us=delay,
        transfer="srgb" if srgb else "linear",
        received_ns=received_ns,
        epoch=epoch,
        exposure_known=bool(known),
    )
