"""What a stream counts over all of its sessions: totals, losses, and the index that each image has under its tag."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.losses import Losses

TAGS = 64
"""Tags whose images are counted. A client that asks with more tags has the longest unused one begin again at 0."""
_TAG = np.dtype(
    [
        ("next", np.int64),
        ("used", np.int64),  # grows from use to use: the smallest is the longest unused; 0 = nobody's
        ("at_us", np.float64),
        ("frame", np.int64),
        ("epoch", np.int64),  # -1: no place of the plan's was handed out
        ("tag", "S64"),
    ]
)
INDEX_MEMORY = np.dtype([("window", np.int64), ("tags", _TAG, (TAGS,))])
"""Of `Indices`, all zero at the beginning; it may lie in shared memory, and outlive whoever counts."""


class Place(NamedTuple):
    """Where one of the plan's shutters lies.

    Attributes:
        at_us: its middle, device time.
        frame: index of the captured frame that it belongs to.
        epoch: life of the device clock.
    """

    at_us: float
    frame: int
    epoch: int


@dataclass(slots=True)
class Counters:
    """Running totals. `unanswered` counts indices that no image has, up to the newest one that was handed out."""

    events: int = 0
    frames: int = 0
    windows: int = 0
    exposed: int = 0
    late_windows: int = 0
    reduced_queries: int = 0
    unanswered: int = 0
    out_of_memory: int = 0
    built_ahead: int = 0
    fallback_windows: int = 0


class Indices:
    """Numbers the images of each tag, and keeps what was handed out last for whoever counts on.

    Numbers that were given and not handed out are forgotten with the one who gave them.
    """

    def __init__(self, memory: NDArray[np.void] | None = None) -> None:
        """Go on with what a memory holds, of `INDEX_MEMORY`; None = begin."""
        self._memory = np.zeros((), INDEX_MEMORY) if memory is None else memory
        self._tags = self._memory["tags"]
        self._rows: dict[str, int] = {}
        self._next: dict[str, int] = {}
        self._uses = int(self._tags["used"].max())
        for row in np.flatnonzero(self._tags["used"]).tolist():
            tag = bytes(self._tags["tag"][row]).decode(errors="replace")
            self._rows[tag], self._next[tag] = row, int(self._tags["next"][row])

    @property
    def window(self) -> int:
        """Index of the window after the newest one that has handed out an image."""
        return int(self._memory["window"])

    def give(self, tag: str, count: int = 1) -> range:
        """Number the next images of a tag, or leave so many out."""
        first = self._next.setdefault(tag, 0)
        self._next[tag] = first + count
        return range(first, first + count)

    def last(self, tag: str) -> Place | None:
        """Where the plan's shutter lies that was handed out last; None where there is none."""
        if tag not in self._rows:
            return None
        row = self._tags[self._rows[tag]]
        place = Place(float(row["at_us"]), int(row["frame"]), int(row["epoch"]))
        return place if place.epoch >= 0 else None

    def hand_out(self, tag: str, index: int, *, place: Place | None = None, window: int = -1) -> int:
        """Note an image before it leaves: no index comes twice, whatever happens then.

        Args:
            tag: of the image, at most 64 ASCII letters.
            index: of the image.
            place: of its shutter, where the plan asked for it.
            window: that answered; -1 = none.

        Returns:
            How many indices of the tag no image has since the one before.
        """
        if tag not in self._rows:
            self._rows[tag] = self._free_row(tag)
        row = self._tags[self._rows[tag]]
        self._uses += 1
        row["used"] = self._uses
        hole = index - int(row["next"])
        row["next"] = index + 1
        if place is not None:
            row["at_us"], row["frame"], row["epoch"] = place
        if window >= 0:
            self._memory["window"] = max(window + 1, self.window)
        return hole

    def _free_row(self, tag: str) -> int:
        number = int(self._tags["used"].argmin())
        row = self._tags[number]
        if row["used"]:
            oldest = bytes(row["tag"]).decode(errors="replace")
            self._rows.pop(oldest, None)
            self._next.pop(oldest, None)
        row["used"], row["next"], row["epoch"] = 0, 0, -1
        row["tag"] = tag.encode()
        return number


@dataclass(slots=True)
class Tally:
    """All that is counted on when a session follows another one, in the same process or in the next."""

    counters: Counters = field(default_factory=Counters)
    losses: Losses = field(default_factory=Losses)
    indices: Indices = field(default_factory=Indices)
