"""DAVIS346, DVXplorer, EVK3-HD and EVK4, live, without a vendor's SDK: through neuromorphic-drivers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

import numpy as np

from drivers.packets.live_merge import LiveMerge
from drivers.sdk.configuration import filled
from drivers.sdk.usb import why_absent
from drivers.settings import checked, require_range
from drivers.source import SourceInfo, missing_package, require_sdk
from nire.errors import DeviceLost, DeviceNotFound, SourceError
from nire.types import Frame, Geometry, ImuBatch, SourcePacket, Trigger

_NAME = "neuromorphic"
_PACKAGE, _EXTRA = "neuromorphic-drivers", "neuromorphic"
# What it is called here -> the SDK's name of it; in lower case that is the module with its configuration.
_DEVICES = {
    "davis346": "INIVATION_DAVIS346",
    "dvxplorer": "INIVATION_DVXPLORER",
    "evk3_hd": "PROPHESEE_EVK3_HD",
    "evk4": "PROPHESEE_EVK4",
}
_TIMEOUT_S = 0.02
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NeuromorphicSettings:
    """The settings of the camera (`[source.settings]`). All but device and serial may be changed while it runs.

    Attributes:
        device: "auto" = the first one found, or "davis346", "dvxplorer", "evk3_hd", "evk4".
        serial: of the device, "" = the first one of its kind.
        exposure_us: of the frames of a DAVIS346, 1 to 1000000.
        frame_interval_us: from one frame of a DAVIS346 to the next, 1000 to 8000000.
        configuration: further values of the SDK's own configuration of that device, by its names, for example
            `biases = {diff_on = 20}`, `rate_limiter = {reference_period_us = 1000, maximum_events_per_period = 20000}`.
        stall_s: nothing at all for so long means that the device is lost, 0.2 to 60.
    """

    device: Literal["auto", "davis346", "dvxplorer", "evk3_hd", "evk4"] = "auto"
    serial: str = ""
    exposure_us: int = 8000
    frame_interval_us: int = 25_000
    configuration: Mapping[str, Any] = field(default_factory=dict)
    stall_s: float = 3.0

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: it names the setting.
        """
        require_range(_NAME, "exposure_us", self.exposure_us, 1, 1_000_000)
        require_range(_NAME, "frame_interval_us", self.frame_interval_us, 1000, 8_000_000)
        require_range(_NAME, "stall_s", self.stall_s, 0.2, 60, "s")


def open_source(**settings: Any) -> Neuromorphic:
    """Prepare the camera; see `NeuromorphicSettings` for names, units and defaults. Nothing is opened before `with`.

    Raises:
        ConfigError: a setting that does not exist or is out of range.
    """
    return Neuromorphic(checked(NeuromorphicSettings, _NAME, settings))


def missing_sdk() -> str:
    """Say how to install neuromorphic-drivers; "" where it is."""
    return missing_package("neuromorphic_drivers", package=_PACKAGE, extra=_EXTRA)


def connected() -> list[str]:
    """Name the cameras that the package sees, with what keeps them from being opened; empty where it is missing."""
    if missing_sdk():
        return []
    return [f"{d.name.value} {d.serial or ''}{f' ({d.error})' if d.error else ''}" for d in _listed(_sdk())]


class Neuromorphic:
    """The source: one packet of the package at a time, on the device's clock, which goes on where nothing happens."""

    def __init__(self, settings: NeuromorphicSettings) -> None:
        """Remember the settings."""
        self.settings = settings
        self._device: Any = None
        self._kind = ""
        self._info: SourceInfo | None = None

    @property
    def has_frames(self) -> bool | None:
        """Whether it delivers frames: only the DAVIS does; None while any camera may be found."""
        kind = self._kind or self.settings.device
        return None if kind == "auto" else kind == "davis346"

    @property
    def info(self) -> SourceInfo:
        """What is known of the camera; complete once entered."""
        if self._info is None:
            raise SourceError("the camera is not open: use it in a with statement")
        return self._info

    def __enter__(self) -> Self:
        """Open the camera.

        Raises:
            SdkMissing: neuromorphic-drivers is not installed.
            DeviceNotFound: no such camera, or it is in use or not permitted.
            ConfigError: a value that this device's configuration does not have.
        """
        sdk = _sdk()
        found = self._choose(sdk)
        self._kind = next(kind for kind, name in _DEVICES.items() if name == found.name.name)
        configuration = self._configured(sdk, self.settings)
        serial = found.serial or self.settings.serial or None
        try:
            device = sdk.open(configuration=configuration, iterator_timeout=_TIMEOUT_S, serial=serial)
            self._device = device.__enter__()
        except RuntimeError as error:
            raise DeviceNotFound(f"{found.name.value} {serial}: {error}; {why_absent(_NAME)}") from error
        size = self._device.properties()
        self._info = SourceInfo(
            f"{found.name.value} {self._device.serial()}",
            Geometry(int(size.width), int(size.height)),
            has_frames=bool(self.has_frames),
            live=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; safe to call twice."""
        device, self._device = self._device, None
        if device is not None:
            device.__exit__(None, None, None)

    def change(self, settings: Mapping[str, Any]) -> bool:
        """Change settings while the camera runs.

        Returns:
            False where the device has to be opened again for them: nothing was changed then.

        Raises:
            ConfigError: a setting that does not exist or is out of range; nothing was changed.
            DeviceLost: the camera does not answer.
        """
        wanted = checked(NeuromorphicSettings, _NAME, {**asdict(self.settings), **settings})
        if self._device is None or (wanted.device, wanted.serial) != (self.settings.device, self.settings.serial):
            return False
        configuration = self._configured(_sdk(), wanted)
        try:
            self._device.update_configuration(configuration)
        except RuntimeError as error:
            raise DeviceLost(f"{self.info.name} does not take new settings: {error}") from error
        self.settings = wanted
        return True

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield what the camera has. Where the package marks an overflow, a `Gap` precedes the event after it.

        Raises:
            DeviceLost: the camera went away, or sends nothing for `stall_s`.
        """
        if self._device is None:
            raise SourceError("the camera is not open: use it in a with statement")
        self._device.clear_backlog(0)  # what came since it was opened is old
        merge = LiveMerge(slack_us=0)
        index = -1
        last_ns = time.monotonic_ns()
        while self._device is not None:
            try:
                status, packet = next(self._device)
            except (RuntimeError, StopIteration) as error:
                raise DeviceLost(f"{self.info.name} went away ({error!r}); check the cable") from error
            now_ns = time.monotonic_ns()
            if packet is None or status.ring is None:
                if now_ns - last_ns > self.settings.stall_s * 1e9:
                    raise DeviceLost(f"{self.info.name} sent nothing for {(now_ns - last_ns) * 1e-9:.1f} s")
                yield merge.idle(now_ns)
                continue
            last_ns = now_ns
            yield from _extras(packet)
            for frame, lost in _frames(packet):
                index += 1 + lost
                yield from merge.frame(_frame(frame, index, now_ns))
            yield from _events(packet, merge, int(status.ring.current_t), now_ns)

    def _configured(self, sdk: ModuleType, settings: NeuromorphicSettings) -> Any:
        """Fill the package's own configuration of this kind of device."""
        values = dict(settings.configuration)
        if self._kind == "davis346":
            values = {"exposure_us": settings.exposure_us, "frame_interval_us": settings.frame_interval_us, **values}
        return filled(getattr(sdk, _DEVICES[self._kind].lower()), values, driver=_NAME)

    def _choose(self, sdk: ModuleType) -> Any:
        chosen = self.settings
        known = {name for kind, name in _DEVICES.items() if chosen.device in ("auto", kind)}
        listed = [device for device in _listed(sdk) if device.name.name in known]
        wanted = "camera" if chosen.device == "auto" else chosen.device
        if not listed:
            raise DeviceNotFound(f"no {wanted} was found: {why_absent(_NAME)}")
        matching = [device for device in listed if not chosen.serial or device.serial == chosen.serial]
        there = ", ".join(f"{device.name.value} {device.serial or '(serial unreadable)'}" for device in listed)
        if not matching:
            raise DeviceNotFound(f"no {wanted} with the serial number {chosen.serial!r} is connected, but {there}")
        closed = [device for device in matching if device.error]
        if len(closed) == len(matching):
            raise DeviceNotFound(f"{there} cannot be opened ({closed[0].error}); {why_absent(_NAME)}")
        if len(matching) > 1:
            _log.warning(
                "%d cameras (%s): the first one is used; choose by 'device' and 'serial'", len(matching), there
            )
        return next(device for device in matching if not device.error)


def _events(packet: Any, merge: LiveMerge, current_us: int, now_ns: int) -> Iterator[SourcePacket]:
    """Hand out the events, cut where some were dropped, then the time that the clock has reached."""
    events, marks = packet.polarity_events, packet.polarity_events_overflow_indices
    count = 0 if events is None else len(events)
    cuts = [] if marks is None else [int(mark) for mark in marks]
    start = 0
    for cut in [*cuts, count]:
        if events is not None and cut > start:
            part = events[start:cut]
            yield from merge.events(
                part["t"].astype(np.int64),
                np.ascontiguousarray(part["x"], np.uint16),
                np.ascontiguousarray(part["y"], np.uint16),
                part["on"].astype(np.uint8),
                now_ns,
            )
            start = cut
        if cuts:
            cuts.pop(0)
            until_us = int(events["t"][cut]) if events is not None and cut < count else current_us
            yield from merge.gap(until_us, "the computer was too slow for the camera's USB packets", now_ns)
    yield from merge.clock(current_us, now_ns, exact=True)


def _frames(packet: Any) -> Iterator[tuple[Any, int]]:
    """Give each frame with how many overflows before it: at least so many frames are lost."""
    marks = getattr(packet, "frames_overflow_indices", None)
    marks = [] if marks is None else [int(mark) for mark in marks]
    for at, frame in enumerate(getattr(packet, "frames", None) or ()):
        yield frame, marks.count(at)


def _frame(frame: Any, index: int, now_ns: int) -> Frame:
    known = frame.exposure_start_t is not None and frame.exposure_end_t is not None
    start_us, end_us = (frame.exposure_start_t, frame.exposure_end_t) if known else (frame.t, frame.t)
    pixels = (np.asarray(frame.pixels) >> 8).astype(np.uint8)[..., None]  # 10 bits, shifted up to 16 by the package
    return Frame(index, pixels, int(start_us), int(end_us), received_ns=now_ns, exposure_known=known)


def _extras(packet: Any) -> Iterator[ImuBatch | Trigger]:
    samples = getattr(packet, "imu_events", None)
    if samples is not None and len(samples):
        axes = [[np.asarray(samples[f"{kind}_{axis}"]) for axis in "xyz"] for kind in ("accelerometer", "gyroscope")]
        accelerometer, gyroscope = (np.stack(columns, axis=1).astype(np.float32) for columns in axes)
        yield ImuBatch(samples["t"].astype(np.int64), accelerometer, gyroscope)
    edges = packet.trigger_events
    for edge in () if edges is None else edges:
        names = edge.dtype.names
        # 0 falling, 1 rising, 2 a pulse, of which the DAVIS tells only the beginning.
        rising = bool(edge["rising"] if "rising" in names else edge["polarity"])
        yield Trigger(int(edge["t"]), int(edge["id"]) if "id" in names else 0, rising)


def _sdk() -> ModuleType:
    return require_sdk("neuromorphic_drivers", package=_PACKAGE, extra=_EXTRA)


def _listed(sdk: ModuleType) -> list[Any]:
    try:
        return list(sdk.list_devices())
    except RuntimeError:
        return []  # "Other error": there is no /dev/bus/usb at all
