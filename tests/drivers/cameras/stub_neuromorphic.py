"""Stands in for cameras behind neuromorphic-drivers: the package's own packets, status and configuration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

nd = pytest.importorskip("neuromorphic_drivers", reason="neuromorphic-drivers is not installed")

EVENTS = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])
IMU = np.dtype(
    [("t", "<u8")]
    + [(f"{kind}_{axis}", "<f4") for kind in ("accelerometer", "gyroscope") for axis in "xyz"]
    + [("temperature", "<f4")]
)
TRIGGERS = np.dtype([("t", "<u8"), ("id", "u1"), ("rising", "?")])
Step = tuple[int, Any] | float | Exception
"""(time that the clock has reached, packet), or seconds of silence, or what the package raises."""


def events_of(*rows: tuple[int, int, int, bool]) -> np.ndarray:
    return np.array(list(rows), EVENTS)


def packet_of(kind: str, **parts: Any) -> Any:
    """A packet of the package; what is not given is absent, as there."""
    types = {"davis346": nd.Davis346Packet, "dvxplorer": nd.DvxplorerPacket}
    packet = types.get(kind, nd.Evt3Packet)()
    names = ["polarity_events", "trigger_events"] + ["imu_events"] * (kind in types)
    for name in [*names, *(f"{name}_overflow_indices" for name in names)]:
        setattr(packet, name, None)
    if kind == "davis346":
        packet.frames, packet.frames_overflow_indices = [], None
    for name, value in parts.items():
        assert name in type(packet).__annotations__, f"the package has no {name}"
        setattr(packet, name, value)
    return packet


def frame_of(start_us: int | None, end_us: int | None, t_us: int, level: int) -> Any:
    frame = nd.Frame()
    frame.start_t, frame.exposure_start_t, frame.exposure_end_t, frame.t = t_us - 1, start_us, end_us, t_us
    frame.pixels = np.full((260, 346), level * 64, np.uint16)
    return frame


def moving_dot(kind: str, *, steps: int = 40, step_us: int = 1000) -> list[Step]:
    """An event every 100 us, a frame of 4 ms every 10 ms where the camera has frames."""
    result: list[Step] = []
    for n in range(steps):
        t_us = 5000 + n * step_us
        rows = [(t_us + k * 100, n % 320, k, k % 2 == 0) for k in range(10)]
        parts: dict[str, Any] = {"polarity_events": events_of(*rows)}
        if kind == "davis346" and n % 10 == 9:
            parts["frames"] = [frame_of(t_us - 6000, t_us - 2000, t_us, n)]
        result.append((t_us + step_us - 1, packet_of(kind, **parts)))
    return result


class StubDevice:
    """What `neuromorphic_drivers.open` gives, with the methods that the driver uses."""

    def __init__(self, kind: str, serial: str, steps: list[Step], configuration: Any) -> None:
        self.configurations = [configuration]
        self.closed = False
        self.backlog: list[Step] = []  # what came before anybody iterated
        self._kind, self._serial, self._steps = kind, serial, steps
        self._left: Iterator[Step] = iter(steps)
        self._quiet_until_s = 0.0

    def __enter__(self) -> StubDevice:
        return self

    def __exit__(self, *error: object) -> bool:
        self.closed = True
        return False

    def __next__(self) -> tuple[Any, Any]:
        assert not self.closed, "__next__ called after __exit__"
        now_s = time.time()
        if time.monotonic() < self._quiet_until_s:
            time.sleep(0.02)
            return nd.status.Status(now_s, None), None
        step = self.backlog.pop(0) if self.backlog else next(self._left, None)
        if step is None:
            self._left = iter(self._steps)  # a second iteration finds the same
            raise RuntimeError("No such device (it may have been disconnected)")
        if isinstance(step, Exception):
            raise step
        if isinstance(step, float):
            self._quiet_until_s = time.monotonic() + step
            return next(self)
        ring = nd.status.RingStatus(now_s, 0, 1, False, step[0], 0)
        return nd.status.Status(now_s, ring), step[1]

    def clear_backlog(self, until: int) -> None:
        assert until == 0
        self.backlog = []

    def serial(self) -> str:
        return self._serial

    def properties(self) -> Any:
        return getattr(nd, _module(self._kind)).Properties()

    def update_configuration(self, configuration: Any) -> None:
        assert configuration.type() == _module(self._kind)
        self.configurations.append(configuration)


class StubPackage:
    """Replaces discovery and opening of the package; everything else stays its own."""

    def __init__(self, cameras: dict[str, tuple[str, list[Step]]], *, error: str | None = None) -> None:
        self.cameras = cameras  # by serial: kind, steps
        self.error = error
        self.opened: list[StubDevice] = []

    def list_devices(self) -> list[Any]:
        return [
            nd.ListedDevice(
                nd.Name[_module(kind).upper()],
                nd.Connection.USB_SUPER,
                "1:2",
                None if self.error else serial,
                self.error,
            )
            for serial, (kind, _) in self.cameras.items()
        ]

    def open(self, configuration: Any, iterator_timeout: float, serial: str) -> StubDevice:
        assert iterator_timeout > 0
        kind, steps = self.cameras[serial]
        assert configuration.type() == _module(kind)
        assert configuration.serialize()
        self.opened.append(StubDevice(kind, serial, steps, configuration))
        return self.opened[-1]

    def install(self, patch: pytest.MonkeyPatch) -> StubPackage:
        patch.setattr(nd, "list_devices", self.list_devices)
        patch.setattr(nd, "open", self.open)
        return self


def _module(kind: str) -> str:
    return ("inivation_" if kind in ("davis346", "dvxplorer") else "prophesee_") + kind
