"""Wall time of device time, and back, by the clock records that a stream carries."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from nire.types import WallClock

_RECORDS = 256  # one a second once a clock is known well, some more at its beginning


class WallTime(NamedTuple):
    """A moment on the wall's clock.

    Attributes:
        wall_ns: CLOCK_REALTIME, ns since 1970.
        uncertainty_us: that it may be off either way; None = nobody tells.
    """

    wall_ns: int
    uncertainty_us: float | None


class WallTimes:
    """Keeps the newest clock records; each holds from its device time on, the oldest of an epoch before it too."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._records: deque[WallClock] = deque(maxlen=_RECORDS)

    @property
    def newest(self) -> WallClock | None:
        """The newest record; None before the first."""
        return self._records[-1] if self._records else None

    def add(self, record: WallClock) -> None:
        """Take a record; they come in the order of the stream."""
        self._records.append(record)

    def at(self, device_us: float, epoch: int) -> WallTime | None:
        """Tell the wall time of a device time; None where nothing is known of that epoch."""
        record = None
        for record in self._of(epoch):
            if record.device_us <= device_us:
                break
        return WallTime(record.wall_at(device_us), record.uncertainty_at(device_us)) if record else None

    def device_us(self, wall_ns: int) -> float | None:
        """Tell the device time of a wall time, in the newest epoch; None where nothing is known of it.

        A wall clock that was set back shows a time twice: it is the later one.
        """
        if self.newest is None:
            return None
        until_us = device_us = math.inf
        for record in self._of(self.newest.epoch):
            # Times that a clock which was set ahead has left out: the moment at which it was set.
            device_us = min(record.device_at(wall_ns), until_us)
            if device_us >= record.device_us:
                break
            until_us = record.device_us
        return device_us

    def _of(self, epoch: int) -> Iterator[WallClock]:
        """Records of an epoch, the newest first."""
        return (record for record in reversed(self._records) if record.epoch == epoch)
