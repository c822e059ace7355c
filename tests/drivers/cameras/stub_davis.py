"""Stands in for the DAVIS behind dv-processing: the SDK's own data types, a scripted device at its boundary."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

dv = pytest.importorskip("dv_processing", reason="dv-processing is not installed")

WIDTH, HEIGHT = 32, 24
STEP_US = 2000
START_US = 1_643_243_628_000_000
UNPLUGGED = "unplugged"

Script = Callable[["StubDavis"], Iterator[Any]]
"""Gives what the device hands out: lists of SDK objects, a number of seconds of silence, or UNPLUGGED."""


def store_of(rows: list[tuple[int, int, int, bool]]) -> Any:
    """A `dv.EventStore` of (t_us, x, y, brighter)."""
    store = dv.EventStore()
    for row in rows:
        store.push_back(*row)
    return store


def frame_of(start_us: int, exposure_us: int, image: np.ndarray) -> Any:
    return dv.Frame(start_us, exposure_us, 0, 0, image, dv.FrameSource.SENSOR)


def edges_of(*edges: tuple[int, Any]) -> Any:
    vector = dv.TriggerPacket.TriggersVector()
    for edge in edges:
        vector.append(dv.Trigger(*edge))
    return vector


def imu_of(*times_us: int) -> Any:
    vector = dv.IMUPacket.ImuVector()
    for t_us in times_us:
        vector.append(dv.IMU(t_us, 25.0, 0.0, 1.0, 0.0, 90.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    return vector


def moving_bar(seconds: float = 0.1, *, start_us: int = START_US, lost: tuple[int, ...] = ()) -> Script:
    """A bar that walks over the columns; a frame every 20 ms, out 12 ms after its exposure; `lost` frames never."""

    def play(camera: StubDavis) -> Iterator[Any]:
        rise, fall = dv.TriggerType.APS_EXPOSURE_START, dv.TriggerType.APS_EXPOSURE_END
        coming: list[tuple[int, Any]] = []
        for step in range(round(seconds * 1e6) // STEP_US):
            t_us = start_us + step * STEP_US
            x = step % WIDTH
            out: list[Any] = [store_of([(t_us + 100 * n, x, n, n % 2 == 0) for n in range(15)])]
            out.append(imu_of(t_us + 500, t_us + 1500))
            if step % 10 == 0:
                exposure_us = camera.exposure_us
                image = np.full((HEIGHT, WIDTH, *camera.image_channels()), step // 10 % 250, np.uint8)
                coming.append((t_us + exposure_us + 12_000, frame_of(t_us, exposure_us, image)))
                out.append(edges_of((t_us, rise), (t_us + exposure_us, fall)))
            while coming and coming[0][0] <= t_us + STEP_US:
                frame = coming.pop(0)[1]
                if (int(frame.timestamp) - start_us) // 20_000 not in lost:
                    out.append(frame)
            yield out

    return play


class StubDavis:
    """The part of `dv.io.camera.DAVIS` that the driver uses; a test checks that the real class has all of it."""

    def __init__(self, bus: StubBus, serial: str) -> None:
        self.bus, self.serial = bus, serial
        self.exposure_us = 8000
        self.calls: list[tuple[str, Any]] = []
        self._color = bus.color
        self._gray = False
        self._script: Iterator[Any] | None = None  # not running
        self._quiet_until_s = 0.0
        self._connected = True
        self._queues: dict[str, deque[Any]] = {name: deque() for name in ("events", "frame", "imu", "triggers")}
        self._begin_s = time.monotonic()
        self._step = 0

    def image_channels(self) -> tuple[int, ...]:
        return (3,) if self._color and not self._gray else ()

    # What the SDK has

    def getCameraName(self) -> str:
        return f"DAVIS346_{self.serial}"

    def getEventResolution(self) -> tuple[int, int]:
        return WIDTH, HEIGHT

    def getPixelArrangementFrames(self) -> Any:
        return dv.PixelArrangement.RGBG if self._color else dv.PixelArrangement.MONO

    def getPixelArrangementEvents(self) -> Any:
        return dv.PixelArrangement.GRGB if self._color else dv.PixelArrangement.MONO

    def isImuStreamAvailable(self) -> bool:
        return True

    def isRunning(self) -> bool:
        return self._connected

    def setEventsRunning(self, run: bool) -> None:
        if run and self.bus.comes_back:
            self.bus.plug(self.serial)
            self._connected = True
        self._require()
        if run:
            self._begin_s = time.monotonic()
            self._step = 0
        self._script = self.bus.scripts[self.serial](self) if run else None

    def setFramesRunning(self, run: bool) -> None:
        self._require()

    def setImuRunningAccelerometer(self, run: bool) -> None:
        self._require()

    def setImuRunningGyroscope(self, run: bool) -> None:
        self._require()

    def setDetectorRunning(self, run: bool) -> None:
        self._note("detector", run)

    def setDetectorRisingEdges(self, detectRising: bool) -> None:
        self._note("rising", detectRising)

    def setDetectorFallingEdges(self, detectFalling: bool) -> None:
        self._note("falling", detectFalling)

    def setTimeInterval(self, timeInterval: timedelta) -> None:
        self._note("batch", timeInterval)

    def setFrameInterval(self, frameIntervalUs: timedelta) -> None:
        self._note("interval", frameIntervalUs)

    def setAutoExposure(self, enabled: bool) -> None:
        self._note("auto", enabled)

    def setExposureDuration(self, exposureDurationUs: timedelta) -> None:
        assert ("auto", True) not in self.calls[-1:], "the camera's control would overwrite the exposure"
        self._note("exposure", exposureDurationUs)
        self.exposure_us = round(exposureDurationUs.total_seconds() * 1e6)

    def setColorMode(self, colorMode: Any) -> None:
        self._note("color", colorMode)
        self._gray = colorMode == dv.io.camera.DAVIS.ColorMode.GRAYSCALE

    def setBackgroundActivityFilter(self, timeIn250us: int) -> None:
        self._note("noise", timeIn250us)

    def setDavis346BiasCoarseFine(self, bias: Any, coarse: int, fine: int) -> None:
        self._note(bias.name, (coarse, fine))

    def getNextEventBatch(self) -> Any:
        return self._take("events")

    def getNextFrame(self) -> Any:
        return self._take("frame")

    def getNextImuBatch(self) -> Any:
        return self._take("imu")

    def getNextTriggerBatch(self) -> Any:
        is_due = not any(self._queues.values()) and time.monotonic() >= self._quiet_until_s
        if self._connected and self._script is not None and is_due:
            self._advance(self._script)
        return self._take("triggers")

    # Behind it

    def _advance(self, script: Iterator[Any]) -> None:
        if self.bus.paced and time.monotonic() < self._begin_s + self._step * STEP_US * 1e-6:
            return
        self._step += 1
        step = next(script, UNPLUGGED)
        if step == UNPLUGGED:
            if not self.bus.comes_back:
                self.bus.unplug(self.serial)
            self._connected = False
        elif isinstance(step, (int, float)):
            self._quiet_until_s = time.monotonic() + step
        else:
            for item in step:
                self._queues[_kind(item)].append(item)

    def leave_waiting(self, *items: Any) -> None:
        """Put something into the queues, as a camera does that sends before it was told to stop."""
        for item in items:
            self._queues[_kind(item)].append(item)

    def _take(self, name: str) -> Any:
        queue = self._queues[name]
        return queue.popleft() if queue else None

    def _require(self) -> None:
        if not self._connected:
            raise RuntimeError("libusb: device disconnected\n  0# boost::stacktrace")

    def _note(self, name: str, value: Any) -> None:
        self._require()
        self.calls.append((name, value))


class StubBus:
    """The USB: which cameras are on it, what each will send, which are open.

    Attributes:
        scripts: by serial number.
        paced: keep the device's time.
        comes_back: a camera whose script has ended plays it again when it is asked to run.
        opened: every camera that was opened, in order.
    """

    def __init__(
        self, scripts: dict[str, Script], *, color: bool = False, paced: bool = False, comes_back: bool = False
    ) -> None:
        self.scripts = scripts
        self.color, self.paced, self.comes_back = color, paced, comes_back
        self.present = set(scripts)
        self.opened: list[StubDavis] = []

    def unplug(self, serial: str) -> None:
        self.present.discard(serial)

    def plug(self, serial: str) -> None:
        self.present.add(serial)

    def discover(self) -> list[Any]:
        model = dv.io.camera.CameraModel.DAVIS
        return [SimpleNamespace(serialNumber=serial, cameraModel=model) for serial in sorted(self.present)]

    def open(self, serial: str) -> StubDavis:
        if serial not in self.present:
            raise RuntimeError(f"No device with serial {serial}\n  0# boost::stacktrace")
        self.opened.append(StubDavis(self, serial))
        return self.opened[-1]

    def install(self, patch: pytest.MonkeyPatch) -> StubBus:
        real = dv.io.camera.DAVIS

        class Davis:
            ColorMode, Davis346BiasCF = real.ColorMode, real.Davis346BiasCF

            def __new__(cls, serial: str) -> Any:
                return self.open(serial)

        patch.setattr(dv.io.camera, "DAVIS", Davis)
        patch.setattr(dv.io.camera, "discover", self.discover)
        return self


def _kind(item: Any) -> str:
    if isinstance(item, dv.EventStore):
        return "events"
    if isinstance(item, dv.Frame):
        return "frame"
    return "imu" if isinstance(item, dv.IMUPacket.ImuVector) else "triggers"
