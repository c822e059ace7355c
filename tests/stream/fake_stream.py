"""A stream without a camera: moving images whose content depends on the plan, published by the real sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nire.errors import ConfigError, ShutterOutsideWindow
from nire.shutter import Shutter
from nire.types import EventBatch, ExposedFrame, Frame, Geometry, Stamps
from stream.clock import now_ns
from stream.config import updated
from stream.config_sections import ControlConfig, PlanConfig, PublishConfig, SecurityConfig
from stream.sockets.control import ControlServer
from stream.sockets.event_image import EventImager
from stream.sockets.publisher import Publisher
from tests.waiting import PATIENCE_S

HEIGHT, WIDTH = 260, 346
PERIOD_US, EXPOSURE_US = 40_000, 24_000


class FakeStream:
    """Publishes until closed, in a thread; `asked` holds every request, `plan` what is shown."""

    def __init__(
        self,
        publish: str = "tcp://127.0.0.1:*",
        control: str = "tcp://127.0.0.1:*",
        *,
        cameras: Sequence[str] = (),
        **security: str,
    ) -> None:
        keys = SecurityConfig(**security)
        self.publisher = Publisher(PublishConfig(bind=publish), keys)
        self.control = ControlServer(ControlConfig(bind=control), keys)
        self.plan = PlanConfig(name="deblur", rate_hz=200)
        self.cameras = cameras
        """Names of several cameras, which all see the same; none = one that is alone."""
        self.asked: list[dict[str, Any]] = []
        self.paused = False
        self.has_frames = True
        self.dim = 1.0
        self.figures: dict[str, Any] = {}
        """Laid over the status."""
        self.refusals: dict[str, str] = {}
        """Commands that are refused, and why."""
        self.statuses = 0
        self.arrived = threading.Condition()
        self._scene = _scene()
        self._stop = threading.Event()
        self._count = {"captured": 0, "exposed": 0}
        self._started_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return self.publisher.address

    @property
    def exposed(self) -> int:
        """How many frames were exposed."""
        return self._count["exposed"]

    @property
    def subscriptions(self) -> set[bytes]:
        """What somebody subscribes to; the socket itself belongs to the thread."""
        return set(self.publisher._subscriptions)

    def close(self) -> None:
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        self.publisher.close()
        self.control.close()

    def wait_for(self, command: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: any(r["command"] == command for r in self.asked), timeout_s)
        return next(r for r in reversed(self.asked) if r["command"] == command)

    def _run(self) -> None:
        imager = EventImager(Geometry(WIDTH, HEIGHT), span_us=10_000, fps=30)
        status_at = 0.0
        frame = -1
        while not self._stop.wait(0.004):
            self.control.poll(self._answer)
            now_us = (time.monotonic() - self._started_s) * 1e6
            if time.monotonic() >= status_at:
                status_at = time.monotonic() + 0.3
                for camera in self._names:
                    self.publisher.send_status(self._status(camera), camera=camera)
                if self.cameras:
                    self.publisher.send_status(self._status_of_all())
                self.statuses += 1
            if now_us // PERIOD_US > frame:
                frame = int(now_us // PERIOD_US)
                for camera in self._names if self.has_frames else ():
                    self.publisher.send_captured(self._captured(frame), camera=camera)
                if not self.paused and self.plan.name in ("deblur", "unroll"):
                    self._expose(frame * PERIOD_US + EXPOSURE_US / 2 + self.plan.offset_us)
            if not self.paused and self.plan.name in ("upsample", "reshutter"):
                self._expose(now_us)
            imager.add(_events(now_us))
            image = imager.take(now_ns())
            if image is not None:
                for camera in self._names:
                    self.publisher.send_events(image, camera=camera)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["command"] in self.refusals:
            self._note(request)
            raise ConfigError(self.refusals[request["command"]])
        if request["command"] == "set_plan":
            self.plan = updated(self.plan, request["plan"])
        if request["command"] == "play":
            self.figures["replay"] = {**self.figures["replay"], **request["play"]}
        if request["command"] == "record":
            self.figures["recording"] = {"path": f"/data/{request['file']}", "seconds": 3.0, "events": 1, "frames": 2}
        if request["command"] == "record_stop":
            self.figures["recording"] = None
        if request["command"] in ("pause", "resume"):
            self.paused = request["command"] == "pause"
        self._note(request)
        if request["command"] == "set_reconstructor":
            return {"number": 7, "state": "pending"}
        if request["command"] == "expose":
            half_us = request["for_us"] / 2
            middle_us = request["t_us"] + half_us if "t_us" in request else self._device_us(request["wall_ns"])
            if middle_us < half_us:
                raise ShutterOutsideWindow("before the beginning", (0.0, 1.0))
            index = self._expose(middle_us, request["tag"], request["for_us"])
            return {"index": index, "topic": f"frame/{request['tag']}", "t_a_us": middle_us - half_us}
        return self._status(request.get("camera", ""))

    def _note(self, request: dict[str, Any]) -> None:
        with self.arrived:
            self.asked.append(request)
            self.arrived.notify_all()

    @property
    def _names(self) -> Sequence[str]:
        return self.cameras or [""]

    def _status_of_all(self) -> dict[str, Any]:
        statuses = {camera: self._status(camera) for camera in self.cameras}
        return {"control": self.control.address, "cameras": {**statuses, "absent": {"state": "failed"}}}

    def _status(self, camera: str) -> dict[str, Any]:
        return {
            **({"camera": camera} if camera else {}),
            "stream": "fake",
            "source": {
                "name": "fake camera",
                "width": WIDTH,
                "height": HEIGHT,
                "channels": 1,
                "live": True,
                "has_frames": self.has_frames,
            },
            "state": "paused" if self.paused else "running",
            "control": self.control.address,
            "plan": self.plan.model_dump(),
            "backend": "edi",
            "covered_us": [0.0, (time.monotonic() - self._started_s) * 1e6],
            "calibration": {
                "threshold_positive": 0.2213,
                "threshold_negative": np.float32(0.1987),
                "time_offset_us": -4512.0,
                "hot_pixels": 3,
                "misfit": 0.35,
            },
            **self.figures,
        }

    def _captured(self, index: int) -> Frame:
        start = index * PERIOD_US
        wide = [self._view(t, 0.0) for t in np.linspace(start, start + EXPOSURE_US, 12)]
        pixels = np.mean(wide, axis=0).astype(np.uint8)[..., None]
        return Frame(index, pixels, start, start + EXPOSURE_US, received_ns=now_ns())

    def _expose(self, t_us: float, tag: str = "", for_us: float | None = None) -> int:
        plan = self.plan if for_us is None else updated(self.plan, {"exposure_us": for_us})
        times = t_us + np.linspace(-0.5, 0.5, 5 if plan.exposure_us else 1) * plan.exposure_us
        pixels = np.mean([self._view(t, plan.row_delay_us) for t in times], axis=0).astype(np.uint8)[..., None]
        shutter = Shutter.rolling(
            t_us - plan.exposure_us / 2, t_us + plan.exposure_us / 2, row_delay_us=plan.row_delay_us, height=HEIGHT
        )
        now = now_ns()
        stamps = Stamps(shutter.mid_us, now - 6_100_000, now - 2_400_000, now - 300_000)
        index = self._count["exposed"]
        self._count["exposed"] += 1
        frame = ExposedFrame(
            index,
            index,
            pixels,
            shutter,
            tag or plan.name,
            stamps,
            late_windows=2,
            backend="edi",
            engine="cpu",
            wall_ns=self._wall_ns(shutter.mid_us),
            wall_uncertainty_us=500.0,
        )
        for camera in self._names:
            self.publisher.send_frame(frame, camera=camera)
        return index

    def _wall_ns(self, device_us: float) -> int:
        return time.time_ns() - time.monotonic_ns() + round(1e9 * self._started_s + 1000 * device_us)

    def _device_us(self, wall_ns: int) -> float:
        return (wall_ns - self._wall_ns(0)) / 1000

    def _view(self, t_us: float, row_delay_us: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
        shift = 150 * (t_us / 1e6)
        lean = 150 * row_delay_us / 1e6
        matrix = np.array([[1, -lean, -(shift % WIDTH)], [0, 1, 0]], np.float32)
        view = cv2.warpAffine(self._scene, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        return (view * self.dim).astype(np.uint8)


def _scene() -> np.ndarray[Any, np.dtype[np.uint8]]:
    rng = np.random.default_rng(3)
    image = cv2.GaussianBlur(rng.integers(30, 120, (HEIGHT, WIDTH), np.uint8), (0, 0), 6)
    for row in range(3):
        for column in range(4):
            at = (20 + column * 86, 50 + row * 84)
            cv2.circle(image, (at[0] + 24, at[1]), 22, int(rng.integers(120, 240)), -1)
            cv2.putText(image, "NIRE", at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 20, 2)
    return image


def _events(now_us: float) -> EventBatch:
    rng = np.random.default_rng(int(now_us))
    n = 400
    x = rng.integers(0, WIDTH, n, np.uint16)
    y = rng.integers(0, HEIGHT, n, np.uint16)
    t = np.sort(rng.integers(int(now_us) - 4000, int(now_us) + 1, n))
    return EventBatch(t, x, y, (x % 2).astype(np.uint8), int(now_us) + 1, received_ns=now_ns())


def key_settings(folder: Path) -> dict[str, str]:
    """Make a server key and an empty allow-list; returns what goes into [security]."""
    from stream.sockets import keys

    _, secret = keys.new("server", folder)
    (folder / "allowed").mkdir()
    return {"server_key": str(secret), "authorized_keys": str(folder / "allowed")}
