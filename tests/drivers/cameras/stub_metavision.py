"""Stands in for an installed Metavision SDK: the modules, facilities and types that its EventsIterator needs too."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

EVENT_CD = np.dtype({"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8]})
EVENT_EXT_TRIGGER = np.dtype(
    {"names": ["p", "t", "id"], "formats": ["<i2", "<i8", "<i2"], "offsets": [0, 8, 16], "itemsize": 24}
)
WIDTH, HEIGHT = 1280, 720
Step = tuple[int, np.ndarray, np.ndarray] | float | Exception
"""(time that the decoder has reached, events, triggers), seconds of silence, or what the SDK raises."""


def step_of(
    reached_us: int, rows: list[tuple[int, int, int, int]] = (), edges: list[tuple[int, int, int]] = ()
) -> Step:  # type: ignore[assignment]
    """Events (x, y, p, t) and edges (p, t, id) of one raw buffer."""
    return reached_us, np.array(list(rows), EVENT_CD), np.array(list(edges), EVENT_EXT_TRIGGER)


def moving_dot(steps: int = 20, start_us: int = 1000) -> list[Step]:
    """An event every 100 us, a trigger edge every 2 ms."""
    result = []
    for n in range(steps):
        t_us = start_us + 1000 * n
        rows = [((n * 10 + k) % WIDTH, k, k % 2, t_us + 100 * k) for k in range(10)]
        edges = [(n // 2 % 2, t_us + 50, 0)] if n % 2 == 0 else []
        result.append(step_of(t_us + 999, rows, edges))
    return result


class Decoder:
    """`I_EventDecoder`: hands decoded events to whoever asked."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[np.ndarray], Any]] = []

    def add_event_buffer_callback(self, callback: Callable[[np.ndarray], Any]) -> int:
        self.callbacks.append(callback)
        return len(self.callbacks)

    add_event_buffer_native_callback = add_event_buffer_callback

    def give(self, events: np.ndarray) -> None:
        if events.size:
            for callback in self.callbacks:
                callback(events.copy())


class Stream:
    """`I_EventsStream` and `I_EventsStreamDecoder`: raw buffers that hold the number of a step."""

    def __init__(self, device: Device, steps: list[Step]) -> None:
        self._device, self._steps = device, steps
        self._at = -1
        self._quiet_until_s = 0.0
        self.last_us = -1
        self.running = False

    def start(self) -> None:
        self.running = True
        if self._device.serial:
            self._at = -1  # a camera goes on; a file is read once

    def stop(self) -> None:
        self.running = False

    def stop_log_raw_data(self) -> None:
        pass

    def poll_buffer(self) -> int:
        assert self.running, "poll_buffer before start"
        if time.monotonic() < self._quiet_until_s:
            return 0
        self._at += 1
        if self._at >= len(self._steps):
            return -1
        step = self._steps[self._at]
        if isinstance(step, Exception):
            raise step
        if isinstance(step, float):
            self._quiet_until_s = time.monotonic() + step
            return 0
        return 1

    def get_latest_raw_data(self) -> np.ndarray:
        return np.array([self._at], "<u4").view(np.uint8)

    def decode(self, data: np.ndarray) -> None:
        step = self._steps[int(data.view("<u4")[0])]
        assert isinstance(step, tuple)
        self._device.events.give(step[1])
        self._device.edges.give(step[2])
        self.last_us = step[0]

    def get_last_timestamp(self) -> int:
        return self.last_us


class Facility:
    """A facility that notes what it was told; `refuses` names calls that answer no."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.refuses: set[str] = set()
        self.calls: list[tuple[Any, ...]] = []

    def note(self, name: str, *arguments: Any) -> bool:
        self.calls.append((name, *arguments))
        return name not in self.refuses


class Erc(Facility):
    def set_cd_event_rate(self, events_per_sec: int) -> bool:
        return self.note("rate", events_per_sec)

    def enable(self, b: bool) -> bool:
        return self.note("enable", b)


class Roi(Facility):
    def set_window(self, roi: Any) -> bool:
        return self.note("window", roi.x, roi.y, roi.width, roi.height)

    def enable(self, enable: bool) -> bool:
        return self.note("enable", enable)


class Biases(Facility):
    def get_all_biases(self) -> dict[str, int]:
        return dict(self.values)

    def set(self, bias_name: str, bias_value: int) -> bool:
        if bias_name not in self.values:
            raise RuntimeError(f"unknown bias {bias_name}")
        self.values[bias_name] = bias_value
        return self.note("set", bias_name, bias_value)


class TriggerIn(Facility):
    def enable(self, channel: str) -> bool:
        if channel == "AUX":
            return False
        self.values[channel] = True
        return self.note("enable", channel)

    def disable(self, channel: str) -> bool:
        self.values[channel] = False
        return self.note("disable", channel)

    def is_enabled(self, channel: str) -> bool:
        return bool(self.values.get(channel))


class Device:
    """A HAL device."""

    def __init__(self, serial: str, steps: list[Step], *, bare: bool = False) -> None:
        self.serial = serial
        self.events, self.edges = Decoder(), Decoder()
        self._stream = Stream(self, steps)
        self.erc, self.roi, self.inputs = (None, None, None) if bare else (Erc(), Roi(), TriggerIn())
        self.biases = Biases(bias_diff_on=0, bias_diff_off=0)

    def get_i_geometry(self) -> Any:
        return SimpleNamespace(get_width=lambda: WIDTH, get_height=lambda: HEIGHT)

    def get_i_hw_identification(self) -> Any:
        return SimpleNamespace(get_serial=lambda: self.serial)

    def get_i_events_stream(self) -> Stream:
        return self._stream

    def get_i_events_stream_decoder(self) -> Stream:
        return self._stream

    def get_i_event_cd_decoder(self) -> Decoder:
        return self.events

    def get_i_event_ext_trigger_decoder(self) -> Decoder:
        return self.edges

    def get_i_erc_module(self) -> Erc | None:
        return self.erc

    def get_i_roi(self) -> Roi | None:
        return self.roi

    def get_i_ll_biases(self) -> Biases:
        return self.biases

    def get_i_trigger_in(self) -> TriggerIn | None:
        return self.inputs


class EventsBufferProducer:
    """`metavision_sdk_core.SharedCdEventsBufferProducer`, by time slices."""

    def __init__(
        self, callback: Callable[[int, np.ndarray], None], event_count: int = 0, time_slice_us: int = 0
    ) -> None:
        assert time_slice_us > 0
        self._callback, self._slice_us = callback, time_slice_us
        self._held: list[np.ndarray] = []
        self._end_us = time_slice_us

    def get_process_events_callback(self) -> Callable[[np.ndarray], None]:
        return self._take

    def get_processing_n_us(self) -> int:
        return self._slice_us

    def flush(self) -> None:
        self._emit(np.concatenate(self._held) if self._held else np.empty(0, EVENT_CD))
        self._held = []

    def _take(self, events: np.ndarray) -> None:
        self._held.append(events)
        held = np.concatenate(self._held)
        while held.size and held["t"][-1] >= self._end_us:
            cut = int(np.searchsorted(held["t"], self._end_us))
            self._emit(held[:cut])
            held = held[cut:]
        self._held = [held]

    def _emit(self, events: np.ndarray) -> None:
        self._callback(self._end_us, events)
        self._end_us += self._slice_us


class StubSdk:
    """An installation: cameras by serial number, RAW files by content.

    Attributes:
        opened: every device that was opened, in order.
    """

    def __init__(
        self, cameras: dict[str, list[Step]] | None = None, *, raw: list[Step] = (), bare: bool = False
    ) -> None:  # type: ignore[assignment]
        self.cameras = dict(cameras or {})
        self.raw = list(raw)
        self.bare = bare
        self.opened: list[Device] = []

    def open(self, serial: str) -> Device | None:
        if not self.cameras or (serial and serial not in self.cameras):
            raise RuntimeError(f"------------------\nMetavision HAL exception\nError 101001: {serial} not found")
        serial = serial or next(iter(self.cameras))
        self.opened.append(Device(serial, self.cameras[serial], bare=self.bare))
        return self.opened[-1]

    def open_raw_file(self, raw_file: str, file_config: Any = None) -> Device | None:
        if not Path(raw_file).read_bytes().startswith(b"% "):
            raise RuntimeError("Unable to open RAW file: unknown format")
        self.opened.append(Device("", self.raw))
        return self.opened[-1]

    def modules(self) -> dict[str, ModuleType]:
        hal, base, core = (ModuleType(f"metavision_{name}") for name in ("hal", "sdk_base", "sdk_core"))
        for module in (hal, base, core):
            module.__spec__ = SimpleNamespace(name=module.__name__)  # type: ignore[assignment]
        names = {"open": self.open, "open_raw_file": self.open_raw_file, "list": lambda: list(self.cameras)}
        hal.DeviceDiscovery = SimpleNamespace(**names)  # type: ignore[attr-defined]
        hal.RawFileConfig = SimpleNamespace  # type: ignore[attr-defined]
        hal.I_TriggerIn = SimpleNamespace(Channel=SimpleNamespace(MAIN="MAIN", AUX="AUX", LOOPBACK="LOOPBACK"))  # type: ignore[attr-defined]
        hal.I_ROI = SimpleNamespace(  # type: ignore[attr-defined]
            Window=lambda x, y, width, height: SimpleNamespace(x=x, y=y, width=width, height=height)
        )
        base.EventCD, base.EventExtTrigger = EVENT_CD, EVENT_EXT_TRIGGER  # type: ignore[attr-defined]
        core.SharedCdEventsBufferProducer = EventsBufferProducer  # type: ignore[attr-defined]
        return {module.__name__: module for module in (hal, base, core)}

    def install(self, patch: pytest.MonkeyPatch) -> StubSdk:
        for name, module in self.modules().items():
            patch.setitem(sys.modules, name, module)
        return self
