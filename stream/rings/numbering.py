"""The writer's book: what each packet says about itself, so that readers find order, holes and losses."""

from __future__ import annotations

from collections.abc import Iterator

from nire.types import EventBatch, Frame, Gap, Packet, WallClock
from stream.rings.packets import Header, Kind, body_bytes
from stream.rings.reordering import Parcel


class Ledger:
    """Numbers the packets of one producer life. `stream.rings.reordering` is its counterpart at the reader.

    Attributes:
        life: of the producer, host monotonic ns.
        serial: packets so far, over both rings.
        events, frames: what they held.
    """

    def __init__(self, life: int, max_events: int) -> None:
        """Begin.

        Args:
            life: host monotonic ns at the producer's start.
            max_events: larger batches are split.
        """
        self.life = life
        self.serial = 0
        self.events = 0
        self.frames = 0
        self._max_events = max_events
        self._event_packets = 0
        self._frame_packets = 0
        self._watermark_us: int | None = None
        self._epoch = 0

    def enter(self, packet: Packet, now_ns: int) -> Iterator[Parcel]:
        """Enter a packet: its parcel, or several where it is too large.

        Args:
            packet: any.
            now_ns: stands in for an unknown `received_ns`.
        """
        if isinstance(packet, Frame):
            yield self._frame(packet, now_ns)
        elif isinstance(packet, EventBatch):
            for piece in _pieces(packet, self._max_events):
                yield self._batch(piece, now_ns)
        elif isinstance(packet, WallClock):
            start_us = self._takes_over(packet.device_us, packet.epoch)
            yield self._header(Kind.CLOCK, packet, 0, start_us, now_ns), packet
            self._event_packets += 1
        else:
            start_us = self._takes_over(packet.t0_us, packet.epoch)
            self._watermark_us = max(start_us, packet.t1_us)
            yield self._header(Kind.GAP, packet, 0, start_us, now_ns), packet
            self._event_packets += 1

    def end(self, now_ns: int) -> Parcel:
        """Enter the end of the source."""
        at_us = self._watermark_us or 0
        header = self._header(Kind.END, Gap(at_us, at_us, "", now_ns, self._epoch), 0, at_us, now_ns)
        self._event_packets += 1
        return header._replace(body=0), None

    def _frame(self, frame: Frame, now_ns: int) -> Parcel:
        # A frame does not move the watermark: that is a promise about events.
        start_us = int(frame.first_us) if self._watermark_us is None else self._watermark_us
        header = self._header(Kind.FRAME, frame, 1, start_us, now_ns)
        self._frame_packets += 1
        self.frames += 1
        return header, frame

    def _batch(self, batch: EventBatch, now_ns: int) -> Parcel:
        start_us = self._takes_over(int(batch.t_us[0]) if len(batch) else batch.watermark_us, batch.epoch)
        self._watermark_us = max(start_us, batch.watermark_us)
        header = self._header(Kind.EVENTS, batch, len(batch), start_us, now_ns)
        self._event_packets += 1
        self.events += len(batch)
        return header, batch

    def _takes_over(self, first_us: int, epoch: int) -> int:
        if epoch != self._epoch or self._watermark_us is None:
            self._epoch = epoch
            self._watermark_us = first_us
        return self._watermark_us

    def _header(self, kind: Kind, packet: Packet, items: int, start_us: int, now_ns: int) -> Header:
        is_frame = kind == Kind.FRAME
        self.serial += 1
        return Header(
            kind,
            self.life,
            self.serial - 1,
            self._frame_packets if is_frame else self._event_packets,
            self.frames if is_frame else self.events,
            items,
            start_us,
            start_us if is_frame or self._watermark_us is None else self._watermark_us,
            packet.received_ns or now_ns,
            packet.epoch,
            body_bytes(packet),
        )


def _pieces(batch: EventBatch, most: int) -> Iterator[EventBatch]:
    """Split a batch into packets of at most `most` events; each but the last promises the next one's first event."""
    if len(batch) <= most:
        yield batch
        return
    for start in range(0, len(batch), most):
        stop = min(start + most, len(batch))
        watermark_us = batch.watermark_us if stop == len(batch) else int(batch.t_us[stop])
        yield batch.part(slice(start, stop), watermark_us)
