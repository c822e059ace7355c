"""Prophesee cameras, live, and RAW files, through an installed Metavision SDK or OpenEB."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from drivers.packets.live_merge import LiveMerge
from drivers.sdk.usb import why_absent
from drivers.settings import checked, require_range
from drivers.source import SourceInfo, missing_package, require_sdk
from nire.errors import ConfigError, DeviceLost, DeviceNotFound, RecordingDamaged, SourceError
from nire.types import Geometry, SourcePacket, Trigger

_NAME = "metavision"
_PACKAGE = "the Metavision SDK or OpenEB (https://docs.prophesee.ai), and its Python modules on PYTHONPATH"
_CHANNELS = ("main", "aux", "loopback")
_FIXED = ("serial",)
_POLL_S = 0.0005
_IDLE_NS = 20_000_000


@dataclass(frozen=True, slots=True)
class MetavisionSettings:
    """The settings of the camera (`[source.settings]`). All but serial may be changed while it runs.

    Attributes:
        serial: of the camera, as the SDK lists it; "" = the first one.
        trigger_channels: inputs whose edges are handed out: "main", "aux", "loopback".
        erc_meps: the most that the sensor sends, million events a second (event rate controller), 0 = no limit.
        roi: [x, y, width, height] in pixels, outside of which no pixel sends; [] = all send.
        biases: by the SDK's name, for example `bias_diff_on = 20`.
        stall_s: nothing at all for so long means that the device is lost, 0.2 to 60. Cameras send their time even
            where nothing moves.
    """

    serial: str = ""
    trigger_channels: list[str] = field(default_factory=list)
    erc_meps: float = 0.0
    roi: list[Any] = field(default_factory=list)
    biases: Mapping[str, Any] = field(default_factory=dict)
    stall_s: float = 3.0

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: it names the setting.
        """
        require_range(_NAME, "erc_meps", self.erc_meps, 0, 1000, "M events/s")
        require_range(_NAME, "stall_s", self.stall_s, 0.2, 60, "s")
        for channel in self.trigger_channels:
            if channel not in _CHANNELS:
                raise ConfigError(f"{_NAME}: trigger_channels has {channel!r}, expected some of {', '.join(_CHANNELS)}")
        wrong = [n for at, n in enumerate(self.roi) if not isinstance(n, int) or n < (at > 1)]
        if wrong or len(self.roi) not in (0, 4):
            raise ConfigError(f"{_NAME}: roi = {self.roi!r}, expected [x, y, width, height] in pixels")
        for name, value in self.biases.items():
            if not isinstance(value, int):
                raise ConfigError(f"{_NAME}: biases.{name} = {value!r}, expected a whole number")


def open_source(path: str | Path = "", **settings: Any) -> Metavision:
    """Prepare a camera or a RAW file; nothing is opened before `with`.

    Args:
        path: a RAW file that the SDK decodes; "" = a live camera. The camera's settings do not concern a file.
        settings: of the camera; see `MetavisionSettings` for names, units and defaults.

    Raises:
        ConfigError: a setting that does not exist or is out of range.
    """
    return Metavision(Path(path) if path else None, checked(MetavisionSettings, _NAME, settings))


def missing_sdk() -> str:
    """Say what to install; "" where the SDK's Python modules are found."""
    return missing_package("metavision_hal", package=_PACKAGE)


def connected() -> list[str]:
    """Name the cameras that the SDK lists, by serial number; empty where it is not installed."""
    return [] if missing_sdk() else [str(serial) for serial in _sdk().DeviceDiscovery.list()]


class Metavision:
    """The source: the SDK decodes raw buffers, its callbacks collect what was in each.

    Attributes:
        has_frames: never.
    """

    has_frames = False

    def __init__(self, path: Path | None, settings: MetavisionSettings) -> None:
        """Remember the settings."""
        self.path = path
        self.settings = settings
        self._device: Any = None
        self._info: SourceInfo | None = None
        self._used = False
        self._events: list[NDArray[np.void]] = []
        self._edges: list[NDArray[np.void]] = []

    @property
    def info(self) -> SourceInfo:
        """What is known of the camera; complete once entered."""
        if self._info is None:
            raise SourceError("the camera is not open: use it in a with statement")
        return self._info

    def __enter__(self) -> Self:
        """Open the camera and set it up, or open the file.

        Raises:
            SdkMissing: no Metavision SDK or OpenEB is installed.
            DeviceNotFound: no camera, or none with this serial number, or it is in use or not permitted.
            SourceError: the file is none that the SDK decodes.
            ConfigError: a facility, bias or channel that this camera does not have.
        """
        self._open(_sdk())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; safe to call twice."""
        self._device = None  # the SDK closes what nothing holds

    def change(self, settings: Mapping[str, Any]) -> bool:
        """Change settings while the camera runs.

        Returns:
            False where the device has to be opened again for them: nothing was changed then.

        Raises:
            ConfigError: a setting that does not exist, is out of range, or that this camera does not take.
        """
        wanted = checked(MetavisionSettings, _NAME, {**asdict(self.settings), **settings})
        fixed = any(getattr(wanted, name) != getattr(self.settings, name) for name in _FIXED)
        if self._device is None or self.path is not None or fixed:
            return False
        self._apply(_sdk(), wanted)
        self.settings = wanted
        return True

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield what each raw buffer held: edges, then events, then the time that the camera has reached.

        Raises:
            DeviceLost: the camera went away, or sends nothing for `stall_s`.
            RecordingDamaged: the SDK cannot decode the rest of the file.
        """
        if self._device is None:
            raise SourceError("the camera is not open: use it in a with statement")
        if self._used and self.path is not None:
            self._open(_sdk())  # the SDK reads a file once
        self._used = True
        stream = self._device.get_i_events_stream()
        stream.start()
        try:
            yield from self._packets(stream)
        except RuntimeError as error:
            if self.path is not None:
                raise RecordingDamaged(f"{self.path}: the SDK cannot decode the rest ({error})") from error
            raise DeviceLost(f"{self.info.name} went away ({error}); check the cable") from error
        finally:
            stream.stop()

    def _packets(self, stream: Any) -> Iterator[SourcePacket]:
        merge, decoder = LiveMerge(slack_us=0), self._device.get_i_events_stream_decoder()
        last_ns = said_ns = time.monotonic_ns()
        while self._device is not None:
            state = stream.poll_buffer()
            now_ns = time.monotonic_ns()
            if state < 0:
                if self.path is None:
                    raise DeviceLost(f"{self.info.name} was unplugged, or its connection broke; check the cable")
                return
            if state == 0:
                if self.path is None and now_ns - last_ns > self.settings.stall_s * 1e9:
                    raise DeviceLost(f"{self.info.name} sent nothing for {(now_ns - last_ns) * 1e-9:.1f} s")
                if now_ns - said_ns > _IDLE_NS:
                    said_ns = now_ns
                    yield merge.idle(now_ns)
                time.sleep(_POLL_S)
                continue
            last_ns = said_ns = now_ns
            decoder.decode(stream.get_latest_raw_data())
            yield from self._decoded(merge, int(decoder.get_last_timestamp()), now_ns if self.path is None else 0)

    def _decoded(self, merge: LiveMerge, reached_us: int, now_ns: int) -> Iterator[SourcePacket]:
        events, edges = self._events.copy(), self._edges.copy()
        self._events.clear()
        self._edges.clear()
        for edge in (edge for buffer in edges for edge in buffer):
            yield Trigger(int(edge["t"]), int(edge["id"]), bool(edge["p"]))
        for buffer in events:
            yield from merge.events(
                buffer["t"].astype(np.int64),
                buffer["x"].astype(np.uint16),
                buffer["y"].astype(np.uint16),
                buffer["p"].astype(np.uint8),
                now_ns,
            )
        if reached_us >= 0:
            yield from merge.clock(reached_us, now_ns, exact=True)

    def _open(self, hal: ModuleType) -> None:
        found = hal.DeviceDiscovery
        try:
            self._device = (
                found.open(self.settings.serial) if self.path is None else found.open_raw_file(str(self.path))
            )
        except RuntimeError as error:
            raise self._not_opened(hal, str(error).strip().splitlines()[0]) from error
        if self._device is None:
            raise self._not_opened(hal, "the SDK finds none")
        try:
            self._attach()
            if self.path is None:
                self._apply(hal, self.settings)
        except ConfigError:
            self._device = None
            raise
        self._used = False

    def _not_opened(self, hal: ModuleType, reason: str) -> SourceError:
        if self.path is not None:
            return SourceError(f"{self.path} is no file that the Metavision SDK decodes: {reason}")
        there = ", ".join(str(serial) for serial in hal.DeviceDiscovery.list())
        which = f"camera {self.settings.serial!r}" if self.settings.serial else "Prophesee camera"
        hint = f"connected: {there}" if there and self.settings.serial not in there else why_absent(_NAME)
        return DeviceNotFound(f"no {which} can be opened ({reason}); {hint}")

    def _attach(self) -> None:
        """Collect what the decoders find, and read what the camera is."""
        device = self._device
        self._events, self._edges = [], []
        device.get_i_event_cd_decoder().add_event_buffer_callback(self._events.append)
        triggers = device.get_i_event_ext_trigger_decoder()
        if triggers is not None:
            triggers.add_event_buffer_callback(self._edges.append)
        size = device.get_i_geometry()
        identity = device.get_i_hw_identification() if self.path is None else None
        name = f"Prophesee {identity.get_serial()}" if identity is not None else str((self.path or Path()).name)
        geometry = Geometry(int(size.get_width()), int(size.get_height()))
        self._info = SourceInfo(name, geometry, has_frames=self.has_frames, live=self.path is None)

    def _apply(self, hal: ModuleType, wanted: MetavisionSettings) -> None:
        """Set triggers, event rate controller, region and biases; a facility is only asked for where it is needed."""
        before = self.settings
        if wanted.biases:
            self._set_biases(wanted.biases)
        if wanted.erc_meps or before.erc_meps:
            erc = self._facility("get_i_erc_module", "event rate controller (erc_meps)")
            if wanted.erc_meps and not erc.set_cd_event_rate(round(wanted.erc_meps * 1e6)):
                raise ConfigError(f"{_NAME}: this camera does not take erc_meps = {wanted.erc_meps:g}")
            erc.enable(wanted.erc_meps > 0)
        if wanted.roi or before.roi:
            roi = self._facility("get_i_roi", "region of interest (roi)")
            if wanted.roi and not roi.set_window(hal.I_ROI.Window(*wanted.roi)):
                raise ConfigError(f"{_NAME}: this camera does not take roi = {wanted.roi}")
            roi.enable(bool(wanted.roi))
        if wanted.trigger_channels or before.trigger_channels:
            inputs = self._facility("get_i_trigger_in", "trigger input (trigger_channels)")
            for name in _CHANNELS:
                channel = getattr(hal.I_TriggerIn.Channel, name.upper())
                if name in wanted.trigger_channels and not inputs.enable(channel):
                    raise ConfigError(f"{_NAME}: this camera has no trigger input {name!r}")
                if name not in wanted.trigger_channels and inputs.is_enabled(channel):
                    inputs.disable(channel)

    def _set_biases(self, biases: Mapping[str, Any]) -> None:
        facility = self._facility("get_i_ll_biases", "biases")
        known = facility.get_all_biases()
        for name, value in biases.items():
            if name not in known:
                raise ConfigError(f"{_NAME}: there is no bias {name!r}; this camera has {', '.join(known)}")
            if not facility.set(name, value):
                raise ConfigError(f"{_NAME}: this camera does not take biases.{name} = {value}")

    def _facility(self, getter: str, what: str) -> Any:
        facility = getattr(self._device, getter, lambda: None)()
        if facility is None:
            raise ConfigError(f"{_NAME}: {self.info.name} has no {what}; leave the setting out")
        return facility


def _sdk() -> ModuleType:
    return require_sdk("metavision_hal", package=_PACKAGE)
