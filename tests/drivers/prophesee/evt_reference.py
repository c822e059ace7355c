"""A slow and plain decoder of EVT 3.0 and EVT 2, word by word: what the compiled loops are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

CLAMP_US = 1000


@dataclass
class Decoded:
    """Events (t, x, y, p) and edges (t, channel, rising), in the order of the stream."""

    events: list[tuple[int, int, int, int]] = field(default_factory=list)
    edges: list[tuple[int, int, bool]] = field(default_factory=list)


class Clock:
    """Unwraps the high part, holds small steps back, lets large ones through."""

    def __init__(self, high_bits: int, low_bits: int) -> None:
        """Know how many bits each part has."""
        self.high_bits, self.low_bits = high_bits, low_bits
        self.high: int | None = None
        self.turns = 0
        self.newest: int | None = None

    def take_high(self, value: int) -> None:
        """Take the high part as written."""
        if self.high is not None and self.high - value >= 1 << (self.high_bits - 1):
            self.turns += 1
        self.high = value

    def go_on(self) -> None:
        """Let the high part alone move a time that is known forward."""
        if self.high is not None and self.newest is not None:
            self.newest = max(
                self.newest, (self.turns << (self.high_bits + self.low_bits)) | (self.high << self.low_bits)
            )

    def at(self, low: int) -> int | None:
        """Time with this low part; None before the first high part."""
        if self.high is None:
            return None
        time = (self.turns << (self.high_bits + self.low_bits)) | (self.high << self.low_bits) | low
        if self.newest is not None and 0 < self.newest - time <= CLAMP_US:
            return self.newest
        self.newest = time
        return time


def evt3(words: list[int]) -> Decoded:
    """Decode words of EVT 3.0; words of unknown type are left out."""
    found, clock = Decoded(), Clock(12, 12)
    time = row = base = None
    low = sign = 0
    for word in words:
        kind, value = word >> 12, word & 0xFFF
        if kind == 0x0:
            row = value & 0x7FF
        elif kind == 0x1:
            row = None
        elif kind == 0x2 and row is not None and time is not None:
            found.events.append((time, value & 0x7FF, row, value >> 11))
        elif kind == 0x3:
            base, sign = value & 0x7FF, value >> 11
        elif kind in (0x4, 0x5) and base is not None:
            width = 12 if kind == 0x4 else 8
            if row is not None and time is not None:
                found.events += [(time, base + bit, row, sign) for bit in range(width) if value >> bit & 1]
            base = min(base + width, 0xFFF)
        elif kind == 0x6:
            low = value
            time = clock.at(low)
        elif kind == 0x8 and value != clock.high:
            clock.take_high(value)
            low = 0
            time = clock.at(low)
        elif kind == 0x8:
            time = clock.at(low)
        elif kind == 0xA and time is not None:
            found.edges.append((time, value >> 8, bool(value & 1)))
    return found


def evt2(words: list[int]) -> Decoded:
    """Decode words of EVT 2.0."""
    return _evt2([(word, 1) for word in words])


def evt21(words: list[int]) -> Decoded:
    """Decode words of EVT 2.1."""
    return _evt2([(word >> 32, word & 0xFFFFFFFF) for word in words])


def _evt2(words: list[tuple[int, int]]) -> Decoded:
    found, clock = Decoded(), Clock(28, 6)
    for head, mask in words:
        kind = head >> 28
        if kind == 0x8:
            clock.take_high(head & 0xFFFFFFF)
            clock.go_on()
        elif kind in (0x0, 0x1, 0xA):
            time = clock.at(head >> 22 & 0x3F)
            if time is None:
                continue
            if kind == 0xA:
                found.edges.append((time, head >> 8 & 0x1F, bool(head & 1)))
            else:
                x, y = head >> 11 & 0x7FF, head & 0x7FF
                found.events += [(time, x + bit, y, kind) for bit in range(32) if mask >> bit & 1]
    return found
