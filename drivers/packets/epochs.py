"""Numbers the lives of a device clock: the one place where an epoch is given out."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from nire.types import Packet

_Packet = TypeVar("_Packet", bound=Packet)


class Epochs:
    """Makes of the epochs that a source counts, from 0, epochs that never come twice in a stream.

    Attributes:
        newest: the largest number that was given out.
        base: of the numbers of the present source.
    """

    def __init__(self, newest: int = 0, base: int = 0) -> None:
        """Begin with the numbers of the first source, or go on where another one of us was."""
        self.newest = newest
        self.base = base

    def numbered(self, packet: _Packet) -> _Packet:
        """Give a packet, with its source's epoch, the stream's."""
        epoch = self.base + packet.epoch
        self.newest = max(self.newest, epoch)
        return packet if epoch == packet.epoch else replace(packet, epoch=epoch)

    def clock_began_again(self) -> None:
        """Begin another life of the clock, of which the source itself does not tell."""
        self.base += 1

    def source_began_again(self) -> None:
        """Go on with a source, or a life of the producer, that counts from 0 again."""
        self.base = self.newest + 1
