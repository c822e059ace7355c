"""Bring what a file holds into the order that a source promises: frames after the events of their exposure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from nire.errors import NireError
from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket, Trigger, WallClock

_MOST_WAITING = 64  # packets that may wait for events; a file without events would be held in memory as a whole


def arranged(packets: Iterable[SourcePacket]) -> Iterator[SourcePacket]:
    """Pass packets on in the order of their file, but hold back what is ahead of the events.

    Frames wait until the events have passed their exposure, triggers and inertial samples until the events have
    reached them, at most 64 of each: then, and at the end, an empty batch lets the first ones go. Times of events are
    left as they are: what is wrong with them is the business of `drivers.packets.cleaning`.

    Args:
        packets: in the order of the file; event batches in order of time.
    """
    frames: deque[SourcePacket] = deque()
    others: deque[SourcePacket] = deque()
    watermark_us: int | None = None
    for packet in packets:
        if isinstance(packet, EventBatch):
            if watermark_us is not None and not len(packet):
                packet = replace(packet, watermark_us=max(watermark_us, packet.watermark_us))
            watermark_us = packet.watermark_us
            yield packet
        elif isinstance(packet, Gap | WallClock):
            yield packet
        else:
            (frames if isinstance(packet, Frame) else others).append(packet)
        for waiting in (others, frames):
            while waiting and watermark_us is not None and due_us(waiting[0]) <= watermark_us:
                yield waiting.popleft()
            if len(waiting) > _MOST_WAITING:
                watermark_us = max(due_us(waiting[0]), watermark_us or due_us(waiting[0]))
                yield EventBatch.empty(watermark_us)
                yield waiting.popleft()
    for packet in sorted((*others, *frames), key=due_us):
        watermark_us = max(due_us(packet), watermark_us or due_us(packet))
        yield EventBatch.empty(watermark_us)
        yield packet


def merged(batches: Iterable[SourcePacket], frames: Iterable[Frame]) -> Iterator[SourcePacket]:
    """Merge events and frames that are read from different places; the frames are read when they are due.

    Args:
        batches: events, and what belongs to them, in order of time.
        frames: in order of time.
    """
    queue = iter(frames)
    frame = next(queue, None)
    watermark_us: int | None = None
    for batch in batches:
        yield batch
        if not isinstance(batch, EventBatch):
            continue
        watermark_us = batch.watermark_us
        while frame is not None and due_us(frame) <= watermark_us:
            yield frame
            frame = next(queue, None)
    while frame is not None:
        watermark_us = max(due_us(frame), watermark_us or due_us(frame))
        yield EventBatch.empty(watermark_us)
        yield frame
        frame = next(queue, None)


def sorted_within(batches: Iterable[EventBatch], reach_us: int) -> Iterator[EventBatch]:
    """Sort events of batches by time, as far as none is more than some time late; memory holds that much of them.

    Args:
        batches: whose times may go back by up to `reach_us`, device time; their watermarks are not used.
        reach_us: 0 passes them on as they are.

    Raises:
        NireError: what `batches` raises; after all events before it.
    """
    if reach_us <= 0:
        yield from batches
        return
    held: list[EventBatch] = []
    newest_us = -(2**62)
    failure: NireError | None = None
    try:
        for batch in batches:
            held.append(batch)
            newest_us = max(newest_us, int(batch.t_us.max()))
            if newest_us - min(int(part.t_us[0]) for part in held) > 2 * reach_us:
                ordered = _in_order(held)
                cut = int(np.searchsorted(ordered.t_us, newest_us - reach_us))
                if cut:
                    yield ordered.part(slice(cut), int(ordered.t_us[cut - 1]))
                held = [ordered.part(slice(cut, None))]
    except NireError as error:
        failure = error
    if held:
        ordered = _in_order(held)
        yield replace(ordered, watermark_us=int(ordered.t_us[-1]))
    if failure is not None:
        raise failure


def _in_order(batches: list[EventBatch]) -> EventBatch:
    joined = EventBatch.joined(batches)
    return joined.part(np.argsort(joined.t_us, kind="stable"))


def due_us(packet: SourcePacket) -> int:
    """Device time that the events must have reached before a packet is handed out."""
    if isinstance(packet, Frame):
        return int(-(-packet.last_us // 1))
    if isinstance(packet, ImuBatch):
        return int(packet.t_us[-1]) if len(packet.t_us) else 0
    return packet.t_us if isinstance(packet, Trigger) else 0
