"""Packets by hand, a source of given packets, and digests: what the tests of sources share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from drivers.source import Source, SourceInfo
from nire.errors import DeviceLost
from nire.types import EventBatch, Frame, Gap, Geometry, SourcePacket

GEOMETRY = Geometry(32, 24)


def events(
    t_us: Sequence[int], *, watermark_us: int | None = None, x: int = 1, y: int = 1, epoch: int = 0
) -> EventBatch:
    """A batch of events of one pixel, brighter and darker in turn."""
    count = len(t_us)
    return EventBatch(
        np.array(t_us, np.int64),
        np.full(count, x, np.uint16),
        np.full(count, y, np.uint16),
        (np.arange(count) % 2).astype(np.uint8),
        t_us[-1] if watermark_us is None else watermark_us,
        epoch=epoch,
    )


def frame(index: int, start_us: int, end_us: int, *, known: bool = True) -> Frame:
    """A gray frame whose level is its index."""
    pixels = np.full((GEOMETRY.height, GEOMETRY.width, 1), index, np.uint8)
    return Frame(index, pixels, start_us, end_us, exposure_known=known)


class Given:
    """A source that yields what it was given."""

    def __init__(self, packets: Iterable[SourcePacket]) -> None:
        self._packets = list(packets)

    @property
    def info(self) -> SourceInfo:
        return SourceInfo("given", GEOMETRY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __iter__(self) -> Iterator[SourcePacket]:
        return iter(self._packets)


def column_digests(packets: Iterable[SourcePacket]) -> dict[str, str]:
    """A digest per decoded column, whatever the cutting into batches; host times are left out."""
    hashes = {name: hashlib.sha256() for name in ("t_us", "x", "y", "p", "pixels", "frames", "gaps", "others")}
    for packet in packets:
        if isinstance(packet, EventBatch):
            for name in ("t_us", "x", "y", "p"):
                hashes[name].update(np.ascontiguousarray(getattr(packet, name)).tobytes())
        elif isinstance(packet, Frame):
            hashes["pixels"].update(np.ascontiguousarray(packet.pixels).tobytes())
            fields = (packet.index, packet.exposure_start_us, packet.exposure_end_us, float(packet.row_delay_us))
            hashes["frames"].update(repr((*fields, packet.transfer, packet.epoch, packet.exposure_known)).encode())
        elif isinstance(packet, Gap):
            hashes["gaps"].update(repr((packet.t0_us, packet.t1_us, packet.reason, packet.epoch)).encode())
        elif hasattr(packet, "accelerometer_mps2"):
            for column in (packet.t_us, packet.accelerometer_mps2, packet.gyroscope_radps):
                hashes["others"].update(np.ascontiguousarray(column).tobytes())
        else:
            hashes["others"].update(repr(packet).encode())
    return {name: value.hexdigest()[:16] for name, value in hashes.items()}


class UntilLost:
    """A live source that ends where its device is lost."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.loss: DeviceLost | None = None

    @property
    def info(self) -> SourceInfo:
        return self.source.info

    def __enter__(self) -> Self:
        self.source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.source.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[SourcePacket]:
        try:
            yield from self.source
        except DeviceLost as error:
            self.loss = error
