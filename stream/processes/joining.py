"""What the processes that read the rings share: joining, progress on the board, going on after a predecessor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nire.types import EventBatch, Frame, Gap, Packet
from stream.config import Config
from stream.losses import Losses
from stream.processes.child import Child, Seat
from stream.rings.place import RingSpace
from stream.rings.reordering import Mark
from stream.rings.ring import RingReader

# The supervisor ends a stream whose producer cannot open its source; this is for when that fails too.
_JOIN_S = 300.0


def join(child: Child, config: Config) -> RingReader:
    """Join the rings, however long the producer takes to open its source, unless we are told to stop.

    Raises:
        SystemExit: told to stop.
        RingError: the rings cannot be joined.
    """

    def meanwhile() -> None:
        child.orders()
        child.beat()
        if child.stopping:
            raise SystemExit(0)

    return _joined(child, config, meanwhile)


def join_if_there(seat: Seat, config: Config) -> RingReader | None:
    """Join the rings once their producer has opened its source; None until then.

    Raises:
        RingError: the rings cannot be joined.
    """
    return _joined(seat, config, seat.beat) if RingSpace.of(config.stream_name).read_hello() else None


def _joined(seat: Seat, config: Config, meanwhile: Callable[[], None]) -> RingReader:
    resume = _mark(seat.before)
    return RingReader(config.stream_name, config.ring, wait_s=_JOIN_S, resume=resume, meanwhile=meanwhile)


def read(seat: Seat, reader: RingReader, timeout_s: float) -> list[Packet]:
    """Take what is there, and let the producer know that it need not wait for this reader to take it.

    Where nothing is there, nothing that was sent before is still to come: it may have been sent before we joined.
    """
    producer = seat.board.row("producer")
    passed = producer["life"], producer["serial"]
    packets = reader.read(timeout_s)
    if packets:
        life, serial = reader.continuity.position
        passed = life, serial + 1
    if packets or not reader.continuity.holds_back:
        seat.row["passed_life"], seat.row["passed"] = passed
    return packets


def losses_before(before: Mapping[str, Any]) -> Losses:
    """Losses as a predecessor counted them, from its row; none in a first life."""
    return Losses.after(
        before["lost_events"], before["lost_frames"], epoch=before["frame_epoch"], newest=before["frame_count"] - 1
    )


def note_progress(seat: Seat, reader: RingReader, packets: Iterable[Packet], losses: Losses) -> None:
    """Count what was read, and note what was lost and how far the reader has come.

    Args:
        seat: of this process in the stream.
        reader: of the packets.
        packets: read since the last call.
        losses: that they were added to.
    """
    row = seat.row
    for packet in packets:
        if isinstance(packet, EventBatch):
            row["events_in"] += len(packet)
        elif isinstance(packet, Frame):
            row["frames_in"] += 1
        elif isinstance(packet, Gap):
            row["gaps"] += 1
    note_losses(seat, losses)
    row["frame_epoch"], newest = losses.newest_frame
    row["frame_count"] = newest + 1
    row["lost_packets"] = seat.before["lost_packets"] + reader.lost_packets
    mark = reader.continuity.mark
    for name, value in mark._asdict().items():
        row[name] = value


def note_losses(seat: Seat, losses: Losses) -> None:
    """Note what was lost so far."""
    seat.row["lost_events"], seat.row["lost_frames"] = losses.events, losses.frames


def _mark(before: Mapping[str, Any]) -> Mark | None:
    """Where a killed predecessor was, from its row; None in a first life."""
    return Mark(*(before[name] for name in Mark._fields)) if before["life"] > 0 else None
