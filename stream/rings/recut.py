"""Cuts event batches of any size into packets of one period of the device clock; frames and gaps keep their place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nire.types import EventBatch, Packet


class Recutter:
    """Joins small batches and splits large ones at multiples of `packet_us`.

    What rings and readers cost is per packet, so packets must be neither tiny nor seconds long.
    """

    def __init__(self, packet_us: int) -> None:
        """Cut at multiples of `packet_us`."""
        self._packet_us = packet_us
        self._pending: list[EventBatch] = []
        self._promised_us: int | None = None

    def feed(self, packet: Packet) -> Iterator[Packet]:
        """Take a packet, give the ones that are complete; events in the order of their times."""
        if not isinstance(packet, EventBatch):
            yield from self.flush()
            yield packet
            return
        if self._pending and self._pending[-1].epoch != packet.epoch:
            yield from self.flush()
            self._promised_us = None
        for part in self._parts(packet):
            if self._pending and self._cell(int(part.t_us[0])) != self._cell(int(self._pending[-1].t_us[0])):
                yield self._joined(self._cell(int(part.t_us[0])) * self._packet_us, self._pending[-1])
            self._pending.append(part)
        # The promise is worth a packet only when it ends one: a heartbeat per period is enough.
        if self._promised_us is None or self._cell(packet.watermark_us) > self._cell(self._promised_us):
            yield self._joined(packet.watermark_us, packet)

    def flush(self) -> Iterator[EventBatch]:
        """Give what waits."""
        if self._pending:
            yield self._joined(self._pending[-1].watermark_us, self._pending[-1])

    def _cell(self, t_us: int) -> int:
        return t_us // self._packet_us

    def _parts(self, batch: EventBatch) -> Iterator[EventBatch]:
        low = 0
        while low < len(batch):
            end_us = (self._cell(int(batch.t_us[low])) + 1) * self._packet_us
            high = int(np.searchsorted(batch.t_us, end_us))
            yield batch.part(slice(low, high), batch.watermark_us if high == len(batch) else int(batch.t_us[high]))
            low = high

    def _joined(self, watermark_us: int, last: EventBatch) -> EventBatch:
        parts, self._pending = self._pending, []
        self._promised_us = watermark_us
        if not parts:
            return EventBatch.empty(watermark_us, received_ns=last.received_ns, epoch=last.epoch)
        whole = parts[0] if len(parts) == 1 else EventBatch.joined(parts)
        return replace(whole, watermark_us=watermark_us, received_ns=last.received_ns)
