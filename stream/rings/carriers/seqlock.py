"""Rings in files of shared memory, by the standard library: a seqlock for each packet, and a futex that wakes readers.

Files of int64 words, little-endian; `control` in the stream's folder, the others in shared memory:

    control             magic, depth of the event ring, of the frame ring, generation, notifications
    events-GENERATION   magic, depth, bytes of a slot; from byte 64 on: packets written; from byte 4096 on: slots
    frames-GENERATION   as events
    a slot              state, bytes of the packet; from byte 64 on: the packet (`stream.rings.packets`)

Packet n of a producer lies in slot n modulo depth. The slot's state is 2 n + 1 while the packet is being written and
2 n + 2 when it is whole. A reader copies the header, then the rest, and looks at the state after each: where it is
another one, the writer has been there meanwhile, the copy may be torn and is thrown away. So a writer never waits for a
reader, and one that is killed over a packet leaves a packet that nobody takes. Holes are counted by what packets say of
themselves.

Each producer makes new files, under a name that nobody can know before: a generation is a number by chance. When the
files are complete, it writes the generation. Readers take what is left in the old files, then change. Who lives is told
by locks of the kernel (flock) on small files in the stream's folder; they end with their holder.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from nire.errors import RingError
from nire.types import EventBatch, Packet
from stream.blocks import Blocks
from stream.rings import packets
from stream.rings.carriers import MAX_READERS, RINGS, futex, no_place, other_settings, second_producer
from stream.rings.carriers.atomics import fence, load, store
from stream.rings.packets import Bytes, Header
from stream.rings.place import RingSpace, is_held, open_new, open_own
from stream.rings.reordering import Parcel

_MAGIC = 0x4E49_5245_5345_514C  # "NIRESEQL"
_WORD, _LINE, _PAGE = 8, 64, 4096
_CONTROL = "control"
_PRODUCER = "producer"
_READERS = tuple(f"reader-{k}" for k in range(MAX_READERS))
_SEATS = (_PRODUCER, *_READERS)
# A reader that was overtaken goes on so far from the writer, in parts of the ring: at the oldest packet it would be
# overtaken at once.
_HEAD_START = 8


class _Words:
    """A mapped file, and the words at its beginning."""

    def __init__(self, handle: int, *, writable: bool) -> None:
        """Map an open file whole; the handle is closed."""
        try:
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self.bytes: Bytes = np.frombuffer(mmap.mmap(handle, 0, access=access), np.uint8)
        finally:
            os.close(handle)
        self.address: int = self.bytes.ctypes.data

    def __getitem__(self, place: int) -> int:
        """Read a word."""
        return load(self.address + _WORD * place)

    def __setitem__(self, place: int, value: int) -> None:
        """Write a word; all that was written before is there for whoever reads it."""
        store(self.address + _WORD * place, value)


class _Control(_Words):
    """What all members of a stream share."""

    DEPTHS, GENERATION, NOTIFICATIONS = 1, 3, 4

    @classmethod
    def of(cls, space: RingSpace, depths: Mapping[str, int]) -> _Control:
        """Open the stream's, or make it."""
        path = space.root / _CONTROL
        if not path.exists():
            _make(path, _PAGE, (_MAGIC, *(depths[ring] for ring in RINGS)))
        return cls(open_own(path, os.O_RDWR), writable=True)

    def depths(self) -> dict[str, int]:
        """Packets that each ring keeps."""
        return {ring: self[place] for place, ring in enumerate(RINGS, self.DEPTHS)}


class _Ring(_Words):
    """One ring of one producer, to write or to read."""

    DEPTH, SLOT_BYTES, WRITTEN = 1, 2, _LINE // _WORD

    def __init__(self, handle: int, *, writable: bool) -> None:
        super().__init__(handle, writable=writable)
        self._depth, self._slot_bytes = self[self.DEPTH], self[self.SLOT_BYTES]
        self._next = 0

    @classmethod
    def made(cls, path: Path, depth: int, packet_bytes: int) -> _Ring:
        """Make a ring's file, to write."""
        slot_bytes = _slot_bytes(packet_bytes)
        _make(path, _PAGE + depth * slot_bytes, (_MAGIC, depth, slot_bytes))
        return cls(open_own(path, os.O_RDWR), writable=True)

    @property
    def is_empty(self) -> bool:
        """Everything was taken."""
        return self._next >= self[self.WRITTEN]

    def to_the_newest(self) -> None:
        """Read only what comes from here on."""
        self._next = self[self.WRITTEN]

    def put(self, header: Header, packet: Packet | None) -> None:
        """Write the next packet."""
        state, start = self._slot(self._next)
        size, most = packets.HEADER_BYTES + header.body, self._slot_bytes - _LINE
        if size > most:
            raise RingError(f"a packet of {size} bytes does not fit the ring, which was made for {most}")
        store(state, 2 * self._next + 1)
        fence()  # the state first: a reader of the packet before must not miss that it goes
        packets.write(self.bytes[start : start + size], header, packet)
        store(state + _WORD, size)
        store(state, 2 * self._next + 2)
        self._next += 1
        self[self.WRITTEN] = self._next

    def take(self, blocks: Blocks) -> Iterator[Parcel]:
        """Take the packets that are there, their events into blocks."""
        until = self[self.WRITTEN]
        self._keep_up(until)
        while self._next < until:
            parcel = self._read(self._next, blocks)
            self._next += 1
            if parcel is not None:
                yield parcel
            else:
                self._keep_up(self[self.WRITTEN], overtaken=True)

    def _keep_up(self, written: int, *, overtaken: bool = False) -> None:
        if overtaken or written - self._next > self._depth:
            self._next = max(self._next, written - self._depth + max(1, self._depth // _HEAD_START))

    def _read(self, number: int, blocks: Blocks) -> Parcel | None:
        """Read a packet; None where the writer has been there meanwhile."""
        state, start = self._slot(number)
        whole = 2 * number + 2
        if load(state) != whole:
            return None
        packet = self.bytes[start : start + min(load(state + _WORD), self._slot_bytes - _LINE)]
        head = packet[: packets.HEADER_BYTES].copy()
        if not _is_still(state, whole):
            return None
        header = packets.read_header(head, len(packet))
        body = packets.copy(header, packet[len(head) : len(head) + header.body], blocks)
        if _is_still(state, whole):
            return header, packets.read_copy(header, body)
        if isinstance(body, EventBatch):
            blocks.withdraw(body)
        return None

    def _slot(self, number: int) -> tuple[int, int]:
        """Address of a slot's state, and where its packet begins in the file."""
        at = _PAGE + number % self._depth * self._slot_bytes
        return self.address + at, at + _LINE


class SeqlockRings:
    """One member: a seat, the control words, and the rings as one side has them open."""

    def __init__(self, name: str, space: RingSpace, depths: Mapping[str, int]) -> None:
        """Make or join the rings; use `join`."""
        self._name = name
        self._space = space
        self._control = _Control.of(space, depths)
        if (found := self._control.depths()) != dict(depths):
            raise other_settings(name, f"depths {found}, here {dict(depths)}")
        self._seat = -1
        self._blocks = Blocks()
        self._rings: dict[str, _Ring] = {}
        self._generation = 0
        self._notified = self._control[_Control.NOTIFICATIONS]

    def write_to(self, largest: Mapping[str, int]) -> None:
        """Become the stream's one producer."""
        if not self._sit(_PRODUCER):
            raise second_producer(self._name)
        _remove_rings(self._space)  # they stay with readers that have them open
        generation, depths = 1 + secrets.randbits(62), self._control.depths()
        for ring in RINGS:
            self._rings[ring] = _Ring.made(_ring_file(self._space, ring, generation), depths[ring], largest[ring])
        self._control[_Control.GENERATION] = generation

    def read_from(self, blocks: Blocks) -> None:
        """Become a reader, of what is sent from here on."""
        self._blocks = blocks
        if not any(self._sit(seat) for seat in _READERS):
            raise no_place(self._name)
        if self._control[_Control.GENERATION] and self._change():
            for ring in self._rings.values():
                ring.to_the_newest()

    def put(self, ring: str, header: Header, packet: Packet | None) -> None:
        """Send a packet; the oldest one gives way."""
        self._rings[ring].put(header, packet)

    def notify(self) -> None:
        """Wake all readers."""
        self._control[_Control.NOTIFICATIONS] += 1
        futex.wake(self._control.address + _WORD * _Control.NOTIFICATIONS)

    def take(self, ring: str) -> Iterator[Parcel]:
        """Take what was sent and is still there; of a new producer where the rings of the old one are empty."""
        has_ended = self._control[_Control.GENERATION] != self._generation  # it writes no more
        if ring in self._rings:
            yield from self._rings[ring].take(self._blocks)
        if has_ended and all(old.is_empty for old in self._rings.values()) and self._change():
            yield from self._rings[ring].take(self._blocks)

    def wait(self, seconds: float) -> None:
        """Wait for the next `notify`; one since the last wait ends it at once."""
        if self._control[_Control.NOTIFICATIONS] == self._notified:
            futex.wait(self._control.address + _WORD * _Control.NOTIFICATIONS, self._notified, seconds)
        self._notified = self._control[_Control.NOTIFICATIONS]

    def drop(self) -> None:
        """Leave."""
        self._rings = {}
        if self._seat >= 0:
            os.close(self._seat)
            self._seat = -1

    def _sit(self, seat: str) -> bool:
        """Take a seat, as long as this process lives."""
        handle = os.open(self._space.root / seat, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._seat = handle
        return True

    def _change(self) -> bool:
        """Go over to the rings of the newest producer; not while the next one is making its own."""
        generation = self._control[_Control.GENERATION]
        rings: dict[str, _Ring] = {}
        try:
            for ring in RINGS:
                handle = open_own(_ring_file(self._space, ring, generation), os.O_RDONLY)
                rings[ring] = _Ring(handle, writable=False)
        except FileNotFoundError:
            return False
        self._rings, self._generation = rings, generation
        return True


def join(name: str, space: RingSpace, depths: Mapping[str, int]) -> SeqlockRings:
    """Become a member of a stream's rings.

    Args:
        name: of the stream, for messages.
        space: of the stream, locked.
        depths: packets that each ring keeps.

    Raises:
        RingError: the rings have other settings.
    """
    return SeqlockRings(name, space, depths)


def sweep(space: RingSpace) -> bool:
    """Remove what dead members left where all are dead; tell whether one is alive."""
    if any(is_held(space.root / seat) for seat in _SEATS):
        return True
    (space.root / _CONTROL).unlink(missing_ok=True)
    _remove_rings(space)
    return False


def file_bytes(depth: int, packet_bytes: int) -> int:
    """Size of a ring's file."""
    return _PAGE + depth * _slot_bytes(packet_bytes)


def _is_still(state: int, number: int) -> bool:
    """Tell whether a slot's state is what it was before its packet was copied."""
    fence()  # the copy first, then the second look
    return load(state) == number


def _slot_bytes(packet_bytes: int) -> int:
    return _LINE + -(-packet_bytes // _LINE) * _LINE


def _ring_file(space: RingSpace, ring: str, generation: int) -> Path:
    return space.shared_file(f"{ring}-{generation:016x}")


def _remove_rings(space: RingSpace) -> None:
    for path in space.leftovers():
        if path.name.startswith(tuple(f"{space.prefix}{ring}-" for ring in RINGS)):
            path.unlink(missing_ok=True)


def _make(path: Path, size: int, words: tuple[int, ...]) -> None:
    """Make a file: some words, then zeros, which take no memory."""
    handle = open_new(path)
    try:
        os.ftruncate(handle, size)
        os.pwrite(handle, np.array(words, np.int64).tobytes(), 0)
    finally:
        os.close(handle)
