"""The DAVIS346 and its relatives, live, through dv-processing: events, frames, inertial samples and triggers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

from drivers.sdk import dv_packets
from drivers.sdk.dv_queues import DvQueues
from drivers.sdk.usb import why_absent
from drivers.settings import checked, require_range
from drivers.source import SourceInfo
from nire.errors import ConfigError, DeviceLost, DeviceNotFound, SourceError
from nire.types import Geometry, SourcePacket

_NAME = "davis346"
# Choosing another camera, another geometry or other streams needs a device opened anew.
_FIXED = ("serial", "color", "frames", "imu")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DavisSettings:
    """The settings of the camera (`[source.settings]`). Serial, color, frames and imu stay while it runs.

    Attributes:
        serial: of the device, "" = the first one found.
        exposure_us: of each frame, 1 to 1000000, or "auto": the camera's own control.
        frame_interval_us: from one frame to the next, 1000 to 8000000. Exposure and read-out bound it: the
            sensor gives about 40 frames a second at most.
        batch_us: how often the SDK hands out what it has, 500 to 100000.
        color: "auto": RGB from a colour sensor, gray from a mono one; "gray": gray from both.
        frames: False = events only.
        imu: hand out inertial samples. They also tell the time where no event does.
        triggers: edges on the signal input: "none", "rising", "falling" or "both".
        noise_filter_us: drop events without a neighbour within this time, in the camera, 0 = off, to 1000000.
        biases: by the SDK's name (`Davis346BiasCF`): coarse 0 to 7 and fine 0 to 255, for example `On = [5, 255]`.
        stall_s: nothing at all for so long means that the device is lost, 0.2 to 60.
    """

    serial: str = ""
    exposure_us: int | Literal["auto"] = "auto"
    frame_interval_us: int = 25_000
    batch_us: int = 2000
    color: Literal["auto", "gray"] = "auto"
    frames: bool = True
    imu: bool = True
    triggers: Literal["none", "rising", "falling", "both"] = "none"
    noise_filter_us: int = 0
    biases: Mapping[str, Any] = field(default_factory=dict)
    stall_s: float = 3.0

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: it names the setting.
        """
        if self.exposure_us != "auto":
            require_range(_NAME, "exposure_us", self.exposure_us, 1, 1_000_000)
        require_range(_NAME, "frame_interval_us", self.frame_interval_us, 1000, 8_000_000)
        require_range(_NAME, "batch_us", self.batch_us, 500, 100_000)
        require_range(_NAME, "noise_filter_us", self.noise_filter_us, 0, 1_000_000)
        require_range(_NAME, "stall_s", self.stall_s, 0.2, 60, "s")
        if self.exposure_us != "auto" and self.exposure_us > self.frame_interval_us:
            raise ConfigError(
                f"{_NAME}: exposure_us = {self.exposure_us} does not fit into frame_interval_us = "
                f"{self.frame_interval_us}; make the interval longer or the exposure shorter"
            )
        for name, value in self.biases.items():
            pair = list(value) if isinstance(value, (list, tuple)) else []
            if (
                len(pair) != 2
                or not all(isinstance(n, int) for n in pair)
                or not (0 <= pair[0] <= 7 and 0 <= pair[1] <= 255)
            ):
                raise ConfigError(f"{_NAME}: biases.{name} = {value!r}, expected [coarse 0 to 7, fine 0 to 255]")


def open_source(**settings: Any) -> Davis:
    """Prepare the camera; see `DavisSettings` for names, units and defaults. Nothing is opened before `with`.

    Raises:
        ConfigError: a setting that does not exist or is out of range.
    """
    return Davis(checked(DavisSettings, _NAME, settings))


def missing_sdk() -> str:
    """Say how to install dv-processing; "" where it is."""
    return dv_packets.missing_sdk()


def connected() -> list[str]:
    """Name the cameras that the SDK sees, "model serial"; empty where it is not installed."""
    if missing_sdk():
        return []
    return [f"{d.cameraModel.name} {d.serialNumber}" for d in _discovered(dv_packets.sdk())]


class Davis:
    """The source: polls the SDK's queues and merges them on the device's clock."""

    def __init__(self, settings: DavisSettings) -> None:
        """Remember the settings."""
        self.settings = settings
        self._camera: Any = None
        self._queues: DvQueues | None = None
        self._info: SourceInfo | None = None

    @property
    def has_frames(self) -> bool:
        """Whether it delivers frames."""
        return self.settings.frames

    @property
    def info(self) -> SourceInfo:
        """What is known of the camera; complete once entered."""
        if self._info is None:
            raise SourceError("the DAVIS is not open: use it in a with statement")
        return self._info

    def __enter__(self) -> Self:
        """Open the camera and set it up; it sends nothing yet.

        Raises:
            SdkMissing: dv-processing is not installed.
            DeviceNotFound: no DAVIS, or none with this serial number, or it is in use or not permitted.
            ConfigError: a bias that this camera does not have.
        """
        dv = dv_packets.sdk()
        descriptor = self._choose(_discovered(dv))
        try:
            self._camera = dv.io.camera.DAVIS(descriptor.serialNumber)
            self._run(False)
            self._apply(self.settings, DavisSettings())
            self._info = self._describe(dv)
        except (RuntimeError, IndexError, ValueError) as error:
            self._camera = None
            reason = f"{dv_packets.first_line(error)}; {why_absent(_NAME)}"
            raise DeviceNotFound(f"the DAVIS {descriptor.serialNumber} cannot be opened: {reason}") from error
        except ConfigError:
            self._camera = None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; safe to call twice."""
        if self._queues is not None:
            self._queues.close()
        self._camera = None  # the SDK closes the device when nothing holds it

    def change(self, settings: Mapping[str, Any]) -> bool:
        """Change settings while the camera runs; the next frames have them.

        Returns:
            False where the device has to be opened again for them: nothing was changed then.

        Raises:
            ConfigError: a setting that does not exist or is out of range; nothing was changed.
            DeviceLost: the camera does not answer.
        """
        wanted = checked(DavisSettings, _NAME, {**asdict(self.settings), **settings})
        if self._camera is None or any(getattr(wanted, name) != getattr(self.settings, name) for name in _FIXED):
            return False
        try:
            self._apply(wanted, self.settings)
            if self._queues is not None and wanted.triggers != self.settings.triggers:
                self._camera.setDetectorRunning(wanted.triggers != "none")
        except (RuntimeError, ValueError) as error:
            raise DeviceLost(f"{self.info.name} does not take new settings ({dv_packets.first_line(error)})") from error
        self.settings = wanted
        return True

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield what the camera has; frames carry start and end of their exposure on the clock of the events.

        Raises:
            DeviceLost: the camera went away, or sends nothing for `stall_s`.
        """
        if self._camera is None:
            raise SourceError("the DAVIS is not open: use it in a with statement")
        chosen = self.settings
        queues = self._queues = DvQueues(
            self._camera,
            frames=self._camera if chosen.frames else None,
            imu=self._camera if chosen.imu else None,
            triggers=self._camera,
            channels=self.info.geometry.channels,
            slack_us=10 * chosen.batch_us,
        )
        try:
            queues.discard()  # what came while it was being opened is old, and nothing was kept of the time since
            self._run(True)
            yield from queues.packets(self._why_lost)
        except (RuntimeError, IndexError) as error:
            reason = dv_packets.first_line(error)
            raise DeviceLost(f"{self.info.name} went away ({reason}); check the cable") from error
        finally:
            self._stop()

    def _why_lost(self, quiet_s: float) -> str:
        if not self._camera.isRunning():
            return f"{self.info.name} was unplugged, or its connection broke; check the cable"
        if quiet_s > self.settings.stall_s:
            return f"{self.info.name} sent nothing for {quiet_s:.1f} s although it is connected"
        return ""

    def _choose(self, found: list[Any]) -> Any:
        serial = self.settings.serial
        davis = [d for d in found if d.cameraModel.name.startswith("DAVIS")]
        if not davis:
            raise DeviceNotFound(f"no DAVIS camera was found: {why_absent(_NAME)}")
        if serial:
            for descriptor in davis:
                if descriptor.serialNumber == serial:
                    return descriptor
            there = ", ".join(d.serialNumber for d in davis)
            raise DeviceNotFound(f"no DAVIS with the serial number {serial!r} is connected, but {there}")
        if len(davis) > 1:
            there = ", ".join(d.serialNumber for d in davis)
            _log.warning("%d DAVIS cameras (%s): the first one is used; choose by 'serial'", len(davis), there)
        return davis[0]

    def _describe(self, dv: ModuleType) -> SourceInfo:
        camera = self._camera
        size = camera.getEventResolution()
        width, height = (int(size[0]), int(size[1])) if size is not None else (346, 260)
        is_color = camera.getPixelArrangementFrames() != dv.PixelArrangement.MONO
        if is_color:
            modes = dv.io.camera.DAVIS.ColorMode
            camera.setColorMode(modes.GRAYSCALE if self.settings.color == "gray" else modes.DEFAULT)
        channels = 3 if is_color and self.settings.color == "auto" and self.settings.frames else 1
        bayer = dv_packets.bayer_of(camera.getPixelArrangementEvents()) if channels == 3 else ""
        geometry = Geometry(width, height, channels, bayer)
        # One clock for all, but events lag the light by milliseconds in the dark: that offset is for the estimate.
        return SourceInfo(camera.getCameraName(), geometry, has_frames=self.has_frames, live=True)

    def _apply(self, wanted: DavisSettings, before: DavisSettings) -> None:
        """Set what may change while the camera runs; what is off and was off is not touched: not every model has it."""
        camera, davis = self._camera, dv_packets.sdk().io.camera.DAVIS
        biases = [(_bias(davis, name), int(coarse), int(fine)) for name, (coarse, fine) in wanted.biases.items()]
        camera.setTimeInterval(timedelta(microseconds=wanted.batch_us))
        camera.setFrameInterval(timedelta(microseconds=wanted.frame_interval_us))
        camera.setAutoExposure(wanted.exposure_us == "auto")  # first: the camera's control would overwrite a duration
        if wanted.exposure_us != "auto":
            camera.setExposureDuration(timedelta(microseconds=wanted.exposure_us))
        if wanted.noise_filter_us or before.noise_filter_us:
            camera.setBackgroundActivityFilter(wanted.noise_filter_us // 250)
        if wanted.triggers != "none" or before.triggers != "none":
            camera.setDetectorRisingEdges(wanted.triggers in ("rising", "both"))
            camera.setDetectorFallingEdges(wanted.triggers in ("falling", "both"))
        for bias, coarse, fine in biases:
            camera.setDavis346BiasCoarseFine(bias, coarse, fine)

    def _run(self, on: bool) -> None:
        """Start or stop the streams; what a device sends while nobody listens fills its buffer."""
        camera, chosen = self._camera, self.settings
        camera.setEventsRunning(on)
        camera.setFramesRunning(on and chosen.frames)
        if camera.isImuStreamAvailable():
            camera.setImuRunningAccelerometer(on and chosen.imu)
            camera.setImuRunningGyroscope(on and chosen.imu)
        if chosen.triggers != "none":
            camera.setDetectorRunning(on)

    def _stop(self) -> None:
        if self._camera is None:
            return
        try:
            self._run(False)
        except RuntimeError as error:
            _log.debug("the DAVIS could not be told to stop: %s", error)  # it is gone already


def _discovered(dv: ModuleType) -> list[Any]:
    try:
        return list(dv.io.camera.discover())
    except RuntimeError as error:
        raise DeviceNotFound(f"the USB cannot be searched for cameras ({dv_packets.first_line(error)})") from error


def _bias(davis: Any, name: str) -> Any:
    members = davis.Davis346BiasCF.__members__
    if name not in members:
        raise ConfigError(f"{_NAME}: there is no bias {name!r}; it has {', '.join(members)}")
    return members[name]
