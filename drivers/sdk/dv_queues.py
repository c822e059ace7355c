"""Poll the queues that dv-processing keeps for each kind of data, and merge them on the camera's clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from drivers.packets.live_merge import LiveMerge
from drivers.sdk import dv_packets
from nire.errors import DeviceLost
from nire.types import SourcePacket

_POLL_S = 0.0005
_IDLE_NS = 20_000_000
_AT_ONCE = 2000
_log = logging.getLogger(__name__)


class DvQueues:
    """One iteration over a camera or over network readers.

    Attributes:
        merge: what is known of the camera's clock.
    """

    def __init__(
        self,
        events: Any,
        *,
        frames: Any = None,
        imu: Any = None,
        triggers: Any = None,
        channels: int,
        slack_us: int,
        full_at: int | None = None,
    ) -> None:
        """Begin with empty queues.

        Args:
            events, frames, imu, triggers: the SDK's objects that hand each out (often one and the same); None = not
                wanted.
            channels: of the frames, 1 or 3.
            slack_us: how much later than another stamp of the same device time an event may be handed out.
            full_at: items at which the SDK's queue of events is full and it drops what comes, without a word; None =
                not known.
        """
        self.merge = LiveMerge(slack_us=slack_us)
        self._closed = False
        self._events, self._frames, self._imu, self._triggers = events, frames, imu, triggers
        self._channels = channels
        self._full_at = full_at
        self._was_full = False
        self._counter = dv_packets.FrameCounter()

    def close(self) -> None:
        """End the iteration and let the SDK's objects go, also where nobody iterates to the end: that closes them."""
        self._closed = True
        self._events = self._frames = self._imu = self._triggers = None

    def discard(self) -> None:
        """Throw away what waits."""
        while any(self._take()):
            pass

    def packets(self, lost: Callable[[float], str]) -> Iterator[SourcePacket]:
        """Yield what comes, and a heartbeat where nothing does.

        Args:
            lost: given for how many seconds nothing came, says why the device is lost; "" = it is not.

        Raises:
            DeviceLost: it is, and what had arrived was delivered.
        """
        last_ns = said_ns = time.monotonic_ns()
        while not self._closed:
            now_ns, quiet = time.monotonic_ns(), True
            why = lost((now_ns - last_ns) * 1e-9)  # asked before the queues: they still give what came until then
            for packet in self._poll(now_ns):
                quiet, last_ns, said_ns = False, now_ns, now_ns
                yield packet
            if not quiet:
                continue
            if why:
                raise DeviceLost(why)
            if now_ns - said_ns > _IDLE_NS:
                said_ns = now_ns
                yield self.merge.idle(now_ns)
            time.sleep(_POLL_S)

    def _poll(self, now_ns: int) -> Iterator[SourcePacket]:
        """Take what waits, a bounded part of each queue, so that none starves; the events are taken last.

        Whatever another stamp promises is in the events' queue by then: it counts after them, where that was emptied.
        """
        samples_of, edges_of, images, stores = self._take()
        reached_us: list[int] = []
        for batch in (dv_packets.imu_batch(samples) for samples in samples_of if len(samples)):
            reached_us.append(int(batch.t_us[-1]))
            yield batch
        for edges in edges_of:
            self._counter.saw(edges)
            for trigger in dv_packets.triggers_of(edges):
                reached_us.append(trigger.t_us)
                yield trigger
        for image in images:
            frame = dv_packets.frame_of(image, self._counter.index_of(int(image.timestamp)), self._channels, now_ns)
            reached_us.append(frame.exposure_end_us)
            yield from self.merge.frame(frame)
        yield from self._events_of(stores, now_ns)
        if len(stores) < _AT_ONCE:
            for t_us in reached_us:
                yield from self.merge.clock(t_us, now_ns)

    def _take(self) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
        """Inertial samples, edges, frames, then events."""
        return (
            _taken(self._imu, "getNextImuBatch"),
            _taken(self._triggers, "getNextTriggerBatch"),
            _taken(self._frames, "getNextFrame"),
            _taken(self._events, "getNextEventBatch"),
        )

    def _events_of(self, stores: list[Any], now_ns: int) -> Iterator[SourcePacket]:
        for at, store in enumerate(stores):
            columns = dv_packets.event_columns(store)
            if not columns[0].size:
                continue
            # A full queue drops what comes, until the first item is taken: the hole is behind the last that it held.
            if self._was_full or at == self._full_at:
                yield from self.merge.gap(int(columns[0][0]), "the queue of the reader was full", now_ns)
            self._was_full = False
            yield from self.merge.events(*columns, now_ns)
        if self._full_at is not None and len(stores) >= self._full_at:
            self._was_full = len(stores) == self._full_at
            _log.warning("the queue of events was full: this process is too slow, or was kept from running")


def _taken(queue: Any, name: str) -> list[Any]:
    """Take at most `_AT_ONCE` items of a queue that the SDK keeps; none of one that is not wanted."""
    items: list[Any] = []
    while queue is not None and len(items) < _AT_ONCE and (item := getattr(queue, name)()) is not None:
        items.append(item)
    return items
