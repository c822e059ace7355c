"""Whether events and frames of a stream lie in the same time at all: two clocks that differ give images of nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nire.types import EventBatch, Frame, Packet

_Span = tuple[float, float]
_NONE: _Span = (math.inf, -math.inf)


@dataclass(slots=True)
class Overlap:
    """Follows packets of one life of the device clock."""

    _events: _Span = field(default=_NONE)
    _frames: _Span = field(default=_NONE)
    _epoch: int = 0

    def add(self, packet: Packet) -> None:
        """Take a packet; one of a later life of the clock begins anew."""
        if packet.epoch > self._epoch:
            self._events = self._frames = _NONE
            self._epoch = packet.epoch
        if isinstance(packet, EventBatch) and len(packet):
            self._events = _joined(self._events, float(packet.t_us[0]), float(packet.t_us[-1]))
        elif isinstance(packet, Frame):
            self._frames = _joined(self._frames, packet.first_us, packet.last_us)

    def why_none(self) -> str:
        """Say how far apart events and frames lie; "" where they overlap, or one of them has not come."""
        (first_us, last_us), (begin_us, end_us) = self._events, self._frames
        if math.inf in (first_us, begin_us) or (first_us <= end_us and begin_us <= last_us):
            return ""
        return (
            f"all events lie in [{first_us:.0f}, {last_us:.0f}] us, all frames in [{begin_us:.0f}, {end_us:.0f}] us: "
            "events tell nothing of what the frames show. Are their times of one clock and one unit?"
        )


def _joined(span: _Span, first_us: float, last_us: float) -> _Span:
    return min(span[0], first_us), max(span[1], last_us)
