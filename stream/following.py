"""What every reader of the rings writes on its row of the board, and how a restarted one goes on from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nire.types import EventBatch, Frame, Gap, Packet
from stream.board import Row
from stream.continuity import Mark
from stream.ring import RingReader

JOIN_S = 60.0
"""How long a reader waits for its producer to open the source."""


def note_progress(row: Row, reader: RingReader, packets: Iterable[Packet]) -> None:
    """Count what was read and lost, and how far the reader has come."""
    for packet in packets:
        if isinstance(packet, EventBatch):
            row["events_in"] += len(packet)
        elif isinstance(packet, Frame):
            row["frames_in"] += 1
        elif isinstance(packet, Gap):
            row["gaps"] += 1
    row["lost_events"] = reader.lost_events
    row["lost_frames"] = reader.lost_frames
    row["lost_packets"] = reader.lost_packets
    mark = reader.continuity.mark
    for name, value in mark._asdict().items():
        row[name] = value


def resume_mark(before: Mapping[str, Any]) -> Mark | None:
    """Where a killed predecessor was, from its row; None in a first life."""
    return Mark(*(before[name] for name in Mark._fields)) if before["life"] > 0 else None
