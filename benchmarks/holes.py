"""Holes in what a subscriber got, and whether the stream tells of them (docs/wire-format.md, "Holes")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TOTALS = ("lost_events", "lost_frames", "late_windows", "unanswered", "out_of_memory", "window")


@dataclass(slots=True)
class Holes:
    """What was missing between the messages of one topic, in the order in which they came.

    Attributes:
        told: images that headers say were left out.
        unsent: images that a killed process had not sent yet: `life` tells that there may be such.
        uncounted: images missing that no counter tells, and totals that went back.
    """

    told: int = 0
    unsent: int = 0
    uncounted: int = 0
    _before: Mapping[str, Any] | None = None

    def add(self, header: Mapping[str, Any]) -> None:
        """Look at the header of the next message."""
        before, self._before = self._before, header
        if before is None:
            return
        missing = header["index"] - before["index"] - 1
        told = header["unanswered"] - before["unanswered"]
        self.told += told
        self.uncounted += missing < 0 or any(header[total] < before[total] for total in _TOTALS)
        if header["life"] == before["life"]:
            self.uncounted += abs(missing - told)
        else:
            self.unsent += max(0, missing - told)
            self.uncounted += max(0, told - missing) + (header["life"] < before["life"])
