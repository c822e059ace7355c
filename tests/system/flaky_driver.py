"""A camera that goes away once: `source.driver = "tests.system.flaky_driver"`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from drivers.detect import open_driver
from drivers.source import SourceInfo
from nire.errors import DeviceLost
from nire.types import SourcePacket

_PACKETS_BEFORE = 100


class FlakyCamera:
    """The synthetic camera, unplugged after some packets unless `marker` says that this has happened."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker
        self._camera = open_driver("synthetic", width=64, height=48, noise="ideal")

    @property
    def info(self) -> SourceInfo:
        return self._camera.info

    def __enter__(self) -> Self:
        self._camera.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._camera.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[SourcePacket]:
        for k, packet in enumerate(self._camera):
            if k == _PACKETS_BEFORE and not self._marker.exists():
                self._marker.touch()
                raise DeviceLost("the cable was pulled")
            yield packet


def open_source(marker: str) -> FlakyCamera:
    return FlakyCamera(Path(marker))
