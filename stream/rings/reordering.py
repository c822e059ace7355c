"""What a reader makes of packets from rings: one order, one clock epoch per producer life, a `Gap` for every hole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from drivers.packets.epochs import Epochs
from nire.types import Frame, Gap, Packet
from stream.rings.packets import Header, Kind

Parcel = tuple[Header, Packet | None]


class Mark(NamedTuple):
    """How far a reader has come, for a successor that goes on where it was killed.

    Attributes:
        life, serial: of the newest packet.
        event_packets, event_total, frame_packets, frame_total: what went through each ring up to there.
        watermark_us: of the events.
        epoch, epoch_base: the newest epoch that was given out, and what the present producer's are counted from.
    """

    life: int = 0
    serial: int = -1
    event_packets: int = 0
    event_total: int = 0
    frame_packets: int = 0
    frame_total: int = 0
    watermark_us: int = 0
    epoch: int = 0
    epoch_base: int = 0


class Continuity:
    """Follows the two rings of one stream, and says in the packets what is missing before them.

    `Gap.lost_events` and `Frame.lost_before` are exact, because packets carry running totals. What a killed producer
    had not handed over is counted nowhere: it shows as a `Gap`. Epochs given out never repeat: the first producer life
    keeps its own, each later life starts above all before.

    Attributes:
        lost_packets: packets of either ring that were overwritten before they were read.
        ended: the producer said that its source has ended.
        position: (life, serial) of the newest packet given out; (0, -1) before the first.
    """

    def __init__(self, resume: Mark | None = None) -> None:
        """Begin with the first packet that comes, wherever that is: what was before us is no loss.

        Args:
            resume: where a killed predecessor was; what was sent since then and is gone counts as lost.
        """
        self.lost_packets = 0
        self.ended = False
        self.position = (0, -1)
        self._waiting: list[Parcel] = []
        self._next: dict[bool, tuple[int, int]] = {}
        self._watermark_us = 0
        self._lost_frames = 0  # since the newest frame
        self._epochs = Epochs()
        if resume is not None and resume.life > 0:
            self.position = (resume.life, resume.serial)
            self._next = {
                False: (resume.event_packets, resume.event_total),
                True: (resume.frame_packets, resume.frame_total),
            }
            self._watermark_us = resume.watermark_us
            self._epochs = Epochs(resume.epoch, resume.epoch_base)

    @property
    def mark(self) -> Mark:
        """How far this reader has come."""
        events, frames = self._next.get(False, (0, 0)), self._next.get(True, (0, 0))
        return Mark(*self.position, *events, *frames, self._watermark_us, self._epochs.newest, self._epochs.base)

    @property
    def holds_back(self) -> bool:
        """Whether packets wait for an earlier one of the other ring: read again at once."""
        return bool(self._waiting)

    def accept(self, first: Iterable[Parcel], frames: Iterable[Parcel], again: Iterable[Parcel]) -> list[Packet]:
        """Put newly read packets into the producer's order and mark the holes.

        The three arguments are successive drains. Whatever was sent before a packet of one drain is visible to
        the next drain, so all packets up to the newest of the first two are here, or lost.

        Args:
            first: drained from the event ring.
            frames: then drained from the frame ring.
            again: then drained from the event ring again.
        """
        parcels = [*self._waiting, *first, *frames]
        limit = max((_place(header) for header, _ in parcels), default=None)
        parcels += again
        if limit is None and not parcels:
            return []
        parcels.sort(key=lambda parcel: _place(parcel[0]))
        self._waiting = [p for p in parcels if limit is None or _place(p[0]) > limit]
        result: list[Packet] = []
        for header, packet in parcels[: len(parcels) - len(self._waiting)]:
            self._follow(header, packet, result)
        return result

    def _follow(self, header: Header, packet: Packet | None, result: list[Packet]) -> None:
        if header.life < self.position[0]:
            self._too_late(header, result)
            return
        if header.life > self.position[0]:
            self._begin_life(header, result)
        self._check_hole(header, result)
        self.position = (header.life, header.serial)
        if header.kind == Kind.END:
            self.ended = True
        if packet is not None:
            result.append(self._epochs.numbered(self._told(packet)))
        if header.kind != Kind.FRAME:
            self._watermark_us = header.watermark_us

    def _begin_life(self, header: Header, result: list[Packet]) -> None:
        self.ended = False
        if self.position[0] == 0:
            self._next = {}
            return
        self._next = {False: (0, 0), True: (0, 0)}
        self._epochs.source_began_again()
        # A clock that went on (a camera with absolute time) makes the gap a true span; one that began again, a point.
        t0_us = min(self._watermark_us, header.start_us)
        result.append(self._gap(t0_us, header, "the producer was restarted"))
        self._watermark_us = header.start_us

    def _check_hole(self, header: Header, result: list[Packet]) -> None:
        is_frame = header.kind == Kind.FRAME
        sequence, total = self._next.get(is_frame, (header.sequence, header.total))
        self._next[is_frame] = (header.sequence + 1, header.total + header.items)
        missing = header.sequence - sequence
        if missing <= 0:
            return
        self.lost_packets += missing
        lost = header.total - total
        if is_frame:
            self._lost_frames += lost
        else:
            t0_us = min(self._watermark_us, header.start_us)
            reason = f"the reader was overtaken: {missing} packets with {lost} events are lost"
            result.append(self._gap(t0_us, header, reason, lost))

    def _too_late(self, header: Header, result: list[Packet]) -> None:
        """A packet of a producer after those of its successor: lost, and told in what comes."""
        self.lost_packets += 1
        if header.kind == Kind.FRAME:
            self._lost_frames += header.items
        elif header.items:
            at_us, reason = self._watermark_us, "events of a producer that has ended came too late"
            result.append(Gap(at_us, at_us, reason, header.received_ns, self._epochs.newest, header.items))

    def _told(self, packet: Packet) -> Packet:
        if not isinstance(packet, Frame) or not self._lost_frames:
            return packet
        lost, self._lost_frames = self._lost_frames, 0
        return replace(packet, lost_before=lost)

    def _gap(self, t0_us: int, header: Header, reason: str, lost_events: int = 0) -> Gap:
        gap = Gap(t0_us, header.start_us, reason, header.received_ns, header.epoch, lost_events)
        return self._epochs.numbered(gap)


def _place(header: Header) -> tuple[int, int]:
    return header.life, header.serial
