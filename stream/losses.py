"""Adds up what packets tell of losses: the one place where lost events and frames are counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from nire.types import Frame, Gap, Packet


@dataclass(slots=True)
class Losses:
    """Running totals over packets in the order in which they come.

    Attributes:
        events: that gaps say were lost.
        frames: holes in the count of the camera or, where they say more, what frames say was lost before them; and
            frames of a life of the device clock that is over.
    """

    events: int = 0
    frames: int = 0
    _epoch: int = 0
    _newest: dict[int, int] = field(default_factory=dict)
    """Index of the newest frame, by epoch: frames of the next life may come before its events."""

    @classmethod
    def after(cls, events: int, frames: int, *, epoch: int, newest: int) -> Losses:
        """Go on with the totals of somebody who counted to the frame `newest` of an epoch; -1 = no frame came."""
        return cls(events, frames, epoch, {epoch: newest} if newest >= 0 else {})

    @property
    def newest_frame(self) -> tuple[int, int]:
        """Epoch and index of the newest frame; index -1 where none of this epoch has come."""
        return self._epoch, self._newest.get(self._epoch, -1)

    def add(self, packet: Packet) -> None:
        """Count what is missing before a packet."""
        if isinstance(packet, Frame):
            self.frames += self._frames_before(packet)
            return
        if isinstance(packet, Gap):
            self.events += packet.lost_events
        if packet.epoch > self._epoch:
            self._epoch = packet.epoch
            self._newest = {epoch: index for epoch, index in self._newest.items() if epoch >= packet.epoch}

    def _frames_before(self, frame: Frame) -> int:
        if frame.epoch < self._epoch:
            return 1 + frame.lost_before
        newest = self._newest.get(frame.epoch, frame.index - 1)
        self._newest[frame.epoch] = max(newest, frame.index)
        return max(0, frame.index - newest - 1, frame.lost_before)
