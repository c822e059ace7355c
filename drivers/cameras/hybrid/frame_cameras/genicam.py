"""A GenICam frame camera (GigE Vision, USB3 Vision) through `harvesters` and the vendor's GenTL producer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.cameras.hybrid.frame_cameras import CameraInfo, CapturedFrame
from drivers.settings import require_range
from drivers.source import missing_package, require_sdk
from nire.colour import BayerPattern, demosaiced
from nire.errors import ConfigError, DeviceLost, DeviceNotFound, SourceError

_BAYER: dict[str, BayerPattern] = {"BayerRG8": "RGGB", "BayerBG8": "BGGR", "BayerGR8": "GRBG", "BayerGB8": "GBRG"}
_FORMATS = ("Mono8", "RGB8", "BGR8", *_BAYER)
_FETCH_S = 0.5


def open_camera(
    producer: str = "",
    *,
    serial: str = "",
    features: Mapping[str, Any] | None = None,
    timeout_s: float = 5.0,
) -> GenicamCamera:
    """Prepare a camera.

    Args:
        producer: the vendor's GenTL producer, a `.cti` file; "" = the first one found along $GENICAM_GENTL64_PATH.
        serial: of the camera; "" = the first one.
        features: GenICam features to set before the start, in this order: `{PixelFormat = "BayerRG8",
            LineSelector = "Line1", LineMode = "Output", LineSource = "ExposureActive"}`.
        timeout_s: a camera that sends nothing for so long is lost.

    Raises:
        ConfigError: `timeout_s` is out of range.
    """
    require_range("genicam", "timeout_s", timeout_s, 0, 3600, "s")
    return GenicamCamera(producer, serial, dict(features or {}), timeout_s)


def missing_sdk() -> str:
    """Say how to install harvesters; "" where it is."""
    return missing_package("harvesters", package="harvesters", extra="genicam")


class GenicamCamera:
    """The camera. Frames are counted and stamped by the camera itself."""

    def __init__(self, producer: str, serial: str, features: dict[str, Any], timeout_s: float) -> None:
        """See `open_camera`."""
        self._producer = producer
        self._serial = serial
        self._features = features
        self._timeout_s = timeout_s
        self._harvester: Any = None
        self._acquirer: Any = None
        self._info: CameraInfo | None = None

    @property
    def info(self) -> CameraInfo:
        """Size and name; complete once entered."""
        if self._info is None:
            raise SourceError("the GenICam camera is not open: use it in a with statement")
        return self._info

    def __enter__(self) -> Self:
        """Find the camera and set its features.

        Raises:
            SdkMissing: harvesters is not installed.
            DeviceNotFound: no producer, or no such camera.
            ConfigError: a feature that the camera does not have, or a pixel format that is not known here.
        """
        core = require_sdk("harvesters.core", package="harvesters", extra="genicam")
        producer = self._producer or _first_producer()
        self._harvester = core.Harvester()
        try:
            self._load(producer)
            self._acquirer = self._open()
            nodes = self._acquirer.remote_device.node_map
            self._set_features(nodes)
            pixel_format = str(nodes.PixelFormat.value)
            if pixel_format not in _FORMATS:
                raise ConfigError(
                    f"the camera's PixelFormat is {pixel_format}, expected one of {', '.join(_FORMATS)}: set it in "
                    "source.settings.frames.features"
                )
            channels = 1 if pixel_format == "Mono8" else 3
            name = f"GenICam camera {self._serial or 'first'}"
            self._info = CameraInfo(
                name, int(nodes.Width.value), int(nodes.Height.value), channels, live=True, transfer="linear"
            )
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the camera go."""
        self._close()

    def __iter__(self) -> Iterator[CapturedFrame | None]:
        """Yield frames as they come, and None while none comes.

        Raises:
            DeviceLost: nothing came for `timeout_s`.
        """
        acquirer = self._acquirer
        acquirer.start()
        newest_ns = time.monotonic_ns()
        count = 0
        try:
            while True:
                buffer = acquirer.try_fetch(timeout=_FETCH_S)
                now_ns = time.monotonic_ns()
                if buffer is None:
                    if now_ns - newest_ns > self._timeout_s * 1e9:
                        raise DeviceLost(f"{self.info.name} sent nothing for {self._timeout_s:g} s")
                    yield None
                    continue
                newest_ns = now_ns
                try:
                    frame = self._frame(buffer, count, now_ns)
                finally:
                    buffer.queue()
                count += 1
                yield frame
        finally:
            acquirer.stop()

    def _load(self, producer: str) -> None:
        if not Path(producer).is_file():
            raise DeviceNotFound(
                f"there is no GenTL producer {producer}: source.settings.frames.producer names the camera vendor's .cti"
            )
        try:
            self._harvester.add_file(producer)
            self._harvester.update()
        except Exception as error:
            raise DeviceNotFound(f"the GenTL producer {producer} cannot be used: {error}") from error

    def _open(self) -> Any:
        found = [str(getattr(info, "serial_number", "")) for info in self._harvester.device_info_list]
        if not found or (self._serial and self._serial not in found):
            wanted = f"serial number {self._serial!r}" if self._serial else "any camera"
            raise DeviceNotFound(
                f"the GenTL producer finds {', '.join(found) or 'no camera'}, expected {wanted}. Check power, cable, "
                "and with GigE the address of the network card"
            )
        return self._harvester.create({"serial_number": self._serial} if self._serial else 0)

    def _set_features(self, nodes: Any) -> None:
        for name, value in self._features.items():
            node = getattr(nodes, name, None)
            if node is None:
                raise ConfigError(f"the camera has no GenICam feature {name!r} (source.settings.frames.features)")
            try:
                node.value = value
            except Exception as error:
                raise ConfigError(f"the camera refuses {name} = {value!r}: {error}") from error

    def _frame(self, buffer: Any, count: int, now_ns: int) -> CapturedFrame:
        component = buffer.payload.components[0]
        shape = (int(component.height), int(component.width))
        index = getattr(getattr(buffer, "module", None), "frame_id", None)
        stamp_ns = int(buffer.timestamp_ns)
        # A copy: the buffer goes back to the camera.
        pixels = _as_rgb(np.array(component.data, np.uint8), shape, str(component.data_format))
        return CapturedFrame(
            count if index is None else int(index),
            pixels,
            stamp_ns / 1000 if stamp_ns else now_ns / 1000,
            received_ns=now_ns,
        )

    def _close(self) -> None:
        acquirer, self._acquirer = self._acquirer, None
        harvester, self._harvester = self._harvester, None
        if acquirer is not None:
            acquirer.destroy()
        if harvester is not None:
            harvester.reset()


def _as_rgb(data: NDArray[np.uint8], shape: tuple[int, int], pixel_format: str) -> NDArray[np.uint8]:
    """Unfold the bytes of a buffer: uint8 [H, W, 1] gray or [H, W, 3] RGB."""
    if pixel_format in _BAYER:
        return demosaiced(data.reshape(shape), _BAYER[pixel_format])
    if pixel_format == "Mono8":
        return data.reshape(*shape, 1)
    image = data.reshape(*shape, 3)
    return image if pixel_format == "RGB8" else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _first_producer() -> str:
    folders = [Path(name) for name in os.environ.get("GENICAM_GENTL64_PATH", "").split(os.pathsep) if name]
    found = next((file for folder in folders for file in sorted(folder.glob("*.cti"))), None)
    if found is None:
        raise DeviceNotFound(
            "there is no GenTL producer (*.cti) along $GENICAM_GENTL64_PATH: install the camera vendor's SDK, or name "
            "the file in source.settings.frames.producer"
        )
    return str(found)
