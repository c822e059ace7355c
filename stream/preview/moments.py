"""What belongs together: the captured frame and the events of the moment at which an image is exposed."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream.display import Tone
from stream.preview.images import Look, encoded
from stream.sockets.wire import Message

# An exposed frame comes a few captured ones later than the one that it belongs to.
_KEPT_US = 2e6
_KEPT_BYTES = 1 << 26
_KEPT = 240
# Events further away are of another moment: none are shown then.
_EVENTS_WITHIN_US = 60_000


@dataclass(slots=True, eq=False)
class Picture:
    """A message with an image, and what was made of it for browsers, once for all that want the same.

    Attributes:
        kind: "exposed", "captured" or "events".
        message: as it came.
    """

    kind: str
    message: Message
    _files: dict[Look, bytes | None] = field(default_factory=dict)

    @property
    def mid_us(self) -> float:
        """Device time of the middle of its exposure."""
        header = self.message.header
        told = header.get("stamps", {}).get("device_us")
        if not isinstance(told, int | float) or not told:
            told = (header.get("t_a_us", 0) + header.get("t_b_us", 0)) / 2
        return float(told) if math.isfinite(told) else 0.0

    def file(self, look: Look, tone: Tone) -> bytes | None:
        """An image file for a browser; None where the message has none that can be shown."""
        if look not in self._files:
            self._files[look] = None
            with contextlib.suppress(Exception):  # whoever publishes there must not end the page
                self._files[look] = encoded(self.kind, self.message.pixels, look, tone)
        return self._files[look]

    def value(self, x: int, y: int) -> list[int] | None:
        """The values of a pixel as they are on the wire; None where there is no such pixel."""
        pixels = self.message.pixels
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.dtype.kind not in "iu":
            return None
        if not (0 <= y < pixels.shape[0] and 0 <= x < pixels.shape[1]):
            return None
        return [int(value) for value in pixels[y, x]]


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What is shown at once; each may be missing."""

    exposed: Picture | None = None
    captured: Picture | None = None
    events: Picture | None = None

    @property
    def pictures(self) -> list[Picture]:
        """Those that are there."""
        return [each for each in (self.captured, self.exposed, self.events) if each is not None]

    @property
    def apart_us(self) -> float | None:
        """From the middle of the captured exposure to that of the exposed one; None without one of them."""
        if self.exposed is None or self.captured is None:
            return None
        return self.exposed.mid_us - self.captured.mid_us

    def values(self, x: int, y: int) -> dict[str, Any]:
        """Kind -> values of a pixel as they are on the wire."""
        return {each.kind: each.value(x, y) for each in self.pictures}


class Album:
    """Keeps the newest captured frames and images of events until the exposed frame of their moment is there."""

    def __init__(self) -> None:
        """Start empty."""
        self._kept: dict[str, deque[Picture]] = {"captured": deque(), "events": deque()}

    def add(self, picture: Picture) -> None:
        """Keep a picture for about two seconds of device time; a clock that goes back begins anew."""
        kept = self._kept[picture.kind]
        if kept and picture.mid_us < kept[-1].mid_us - _KEPT_US:
            kept.clear()
        kept.append(picture)
        while len(kept) > 1 and (
            len(kept) > min(_KEPT, _room_for(picture)) or kept[0].mid_us < picture.mid_us - _KEPT_US
        ):
            kept.popleft()

    def moment(self, exposed: Picture | None) -> Moment:
        """What belongs to an exposed frame; without one, the newest captured frame."""
        captured, events = self._kept["captured"], self._kept["events"]
        if exposed is None:
            t_us = captured[-1].mid_us if captured else events[-1].mid_us if events else 0.0
        else:
            t_us = exposed.mid_us
        near = _nearest(events, t_us)
        if near is not None and abs(near.mid_us - t_us) > _EVENTS_WITHIN_US:
            near = None
        return Moment(exposed, _nearest(captured, t_us), near)

    def forget(self, kind: str) -> None:
        """Drop what is kept of a kind, "captured" or "events"; other kinds are not kept."""
        if kind in self._kept:
            self._kept[kind].clear()


def _nearest(pictures: deque[Picture], t_us: float) -> Picture | None:
    return min(pictures, key=lambda each: abs(each.mid_us - t_us), default=None)


def _room_for(picture: Picture) -> int:
    pixels = picture.message.pixels
    size = pixels.nbytes if isinstance(pixels, np.ndarray) else len(pixels or b"")
    return max(1, _KEPT_BYTES // max(1, size))
