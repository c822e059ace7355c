"""What carries the packets of a stream between processes: iceoryx2, or files in shared memory where it is missing.

A carrier is a module with three functions:

    join(name, space, depths) -> Carrier     become a member of a stream's rings; while the space is locked
    sweep(space) -> bool                     remove what dead members left; whether one is alive; while it is locked
    file_bytes(depth, packet_bytes) -> int   size of a ring's file
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Protocol

from nire.errors import RingError
from nire.types import Packet
from stream.blocks import Blocks
from stream.rings.packets import Header
from stream.rings.reordering import Parcel

MAX_READERS = 6
"""Readers that one stream can have at a time (consumer, recorder, and others that attach by name)."""
RINGS = ("events", "frames")
"""Their names; `depths` and `largest` below have a number for each."""


class Carrier(Protocol):
    """One process's membership in a stream's rings. The caller holds the space's lock but in `put` to `wait`.

    Nothing here waits for another member, and one that is killed at any moment holds up nobody.
    """

    def write_to(self, largest: Mapping[str, int]) -> None:
        """Become the stream's one producer.

        Args:
            largest: bytes of the largest packet of each ring.

        Raises:
            RingError: another producer lives.
        """
        ...

    def read_from(self, blocks: Blocks) -> None:
        """Become a reader, of what is sent from here on.

        Args:
            blocks: where the events go that are taken.

        Raises:
            RingError: there are `MAX_READERS`.
        """
        ...

    def put(self, ring: str, header: Header, packet: Packet | None) -> None:
        """Send a packet; the oldest one gives way.

        Raises:
            RingError: no memory.
        """
        ...

    def notify(self) -> None:
        """Wake all readers."""
        ...

    def take(self, ring: str) -> Iterator[Parcel]:
        """Take what was sent and is still there, whole and in order; to be exhausted.

        What was sent before a packet of one ring is there for a later `take` of the other one.
        """
        ...

    def wait(self, seconds: float) -> None:
        """Wait for the next `notify`; one since the last wait ends it at once."""
        ...

    def drop(self) -> None:
        """Leave."""
        ...


def usual() -> str:
    """Name the carrier that is taken where neither config nor a running stream says which."""
    return "iceoryx2" if find_spec("iceoryx2") else "seqlock"


def carrier(name: str) -> ModuleType:
    """Load a carrier.

    Raises:
        RingError: what it needs is not installed.
    """
    try:
        return importlib.import_module(f"stream.rings.carriers.{name}")
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise RingError(
            f"ring.carrier = {name!r} needs the package of this name, which is not installed here: pip install {name}, "
            "or set ring.carrier = 'seqlock'"
        ) from error


def no_place(name: str, what: str = "") -> RingError:
    """Say that all places are taken."""
    why = f" ({what})" if what else ""
    return RingError(
        f"the rings {name!r} have no free place{why}: one producer and {MAX_READERS} readers are the most. Stop the "
        "other one, or give this stream another source.name"
    )


def other_settings(name: str, what: str) -> RingError:
    """Say that the rings are there, and are others."""
    return RingError(
        f"the rings {name!r} exist with other settings ({what}). Processes of one stream need the same [ring] section; "
        "stop the running ones, or choose another source.name"
    )


def second_producer(name: str) -> RingError:
    """Say that there is a producer."""
    return RingError(
        f"another producer already writes the rings {name!r}. Stop it, or give this stream a source.name of its own"
    )
