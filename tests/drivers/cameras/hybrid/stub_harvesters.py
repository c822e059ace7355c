"""Stands in for `harvesters.core`: one GenTL producer with cameras that count and stamp their frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


@dataclass
class Bench:
    """What is connected, and what happened.

    Attributes:
        serials: of the cameras.
        images: what the opened camera delivers: (frame id, timestamp ns, bytes) or None for "nothing yet".
        log: calls, in order.
    """

    width: int = 8
    height: int = 6
    pixel_format: str = "BayerRG8"
    serials: tuple[str, ...] = ("A1", "B2")
    images: list[tuple[int, int, Any] | None] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


class _Node:
    def __init__(self, value: Any, allowed: tuple[Any, ...] = ()) -> None:
        self._value = value
        self._allowed = allowed

    @property
    def value(self) -> Any:
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        if self._allowed and value not in self._allowed:
            raise RuntimeError(f"AccessException: {value} is not available")
        self._value = value


class _Acquirer:
    def __init__(self, bench: Bench, serial: str) -> None:
        self._bench = bench
        nodes = SimpleNamespace(
            Width=_Node(bench.width),
            Height=_Node(bench.height),
            PixelFormat=_Node(bench.pixel_format, ("Mono8", "BayerRG8", "RGB8", "BGR8", "Mono12Packed")),
            LineSource=_Node("Off", ("Off", "ExposureActive")),
        )
        self.remote_device = SimpleNamespace(node_map=nodes)
        bench.log.append(f"create {serial}")

    def start(self) -> None:
        self._bench.log.append("start")

    def stop(self) -> None:
        self._bench.log.append("stop")

    def destroy(self) -> None:
        self._bench.log.append("destroy")

    def try_fetch(self, *, timeout: float) -> Any:
        item = self._bench.images.pop(0) if self._bench.images else None
        if item is None:
            return None
        frame_id, stamp_ns, data = item
        nodes = self.remote_device.node_map
        component = SimpleNamespace(
            width=nodes.Width.value, height=nodes.Height.value, data_format=nodes.PixelFormat.value, data=data
        )

        def queue() -> None:
            data[:] = 0  # the camera writes the next image there
            self._bench.log.append("queue")

        return SimpleNamespace(
            timestamp_ns=stamp_ns,
            module=SimpleNamespace(frame_id=frame_id),
            payload=SimpleNamespace(components=[component]),
            queue=queue,
        )


def core(bench: Bench) -> ModuleType:
    """Make the module `harvesters.core` of a bench."""

    class Harvester:
        def __init__(self) -> None:
            self.device_info_list: list[Any] = []

        def add_file(self, path: str) -> None:
            if b"broken" in Path(path).read_bytes():
                raise RuntimeError("InvalidHandleException")

        def update(self) -> None:
            self.device_info_list = [SimpleNamespace(serial_number=serial) for serial in bench.serials]

        def create(self, search: Any) -> _Acquirer:
            return _Acquirer(bench, search["serial_number"] if isinstance(search, dict) else bench.serials[search])

        def reset(self) -> None:
            bench.log.append("reset")

    module = ModuleType("harvesters.core")
    module.Harvester = Harvester  # type: ignore[attr-defined]
    return module


def noise(bench: Bench, seed: int) -> np.ndarray:
    """Bytes of one image."""
    channels = 3 if bench.pixel_format in ("RGB8", "BGR8") else 1
    return np.random.default_rng(seed).integers(1, 255, bench.width * bench.height * channels, np.uint8)
