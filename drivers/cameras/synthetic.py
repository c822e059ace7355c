"""A synthetic camera: frames and events of a scene whose light is known, in real time or as fast as asked."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from drivers.settings import checked
from drivers.simulated import packets_of_light, shutters
from drivers.source import SourceInfo
from nire.errors import ConfigError
from nire.shutter import Shutter
from nire.simulation.pictures import Image
from nire.simulation.scene import LayeredScene, make_scene
from nire.simulation.sensor_model import SensorModel, sensor_model
from nire.simulation.simulate import expose, quantised
from nire.types import EventBatch, Frame, Geometry

CLOCK_START_US = 1_000_000
"""Device time of the first node of light: not 0, so that nobody takes it for the host's or the recording's start."""

_NAME = "synthetic"
_LATE_NS = 500_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyntheticSettings:
    """The settings of the synthetic camera (`[source.settings]`). Equal settings give equal packets.

    Real time at the default size costs about half a core. The scene grows with the width and so do its speeds:
    1280 x 720 gives some 30 million events a second and is for `live=False`, or for a `motion` well below 1.

    Attributes:
        width, height: of the sensor, pixels, at least 16.
        scene: see `nire.scene.make_scene`.
        seed: of scene and noise.
        motion: factor on the scene's speeds; 0 stands still.
        frame_rate_hz: frames a second; 0 = a camera without frames.
        exposure_us: of each row, 0 = an instant, at most the frame period.
        row_delay_us: alpha of a rolling shutter, >= 0; 0 = global.
        events: False = a camera without events.
        noise: "realistic" or "ideal"; see `nire.simulation.sensor_model.REALISTIC` and `IDEAL`.
        sensor: fields of `nire.sensor_model.SensorModel` that shall differ from those of `noise`.
        seconds: length of the stream, device time; None = without end.
        live: True keeps real time, False delivers as fast as packets are taken.
        step_us: distance of the nodes at which light is computed.
        packet_us: period of event batches.
    """

    width: int = 346
    height: int = 260
    scene: str = "default"
    seed: int = 7
    motion: float = 1.0
    frame_rate_hz: float = 25.0
    exposure_us: float = 20_000.0
    row_delay_us: float = 0.0
    events: bool = True
    noise: Literal["realistic", "ideal"] = "realistic"
    sensor: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    live: bool = True
    step_us: int = 2000
    packet_us: int = 2000

    def __post_init__(self) -> None:
        """Check ranges that would otherwise show late.

        Raises:
            ConfigError: it names the setting.
        """
        period_us = 1e6 / self.frame_rate_hz if self.frame_rate_hz > 0 else np.inf
        checks = (
            ("frame_rate_hz", 0 <= self.frame_rate_hz <= 10_000, "0 to 10000"),
            ("exposure_us", 0 <= self.exposure_us <= period_us, f"0 to the frame period of {period_us:g}"),
            ("row_delay_us", 0 <= self.row_delay_us <= 1e4, "0 to 10000"),
            ("step_us", 50 <= self.step_us <= 20_000, "50 to 20000"),
            ("packet_us", self.packet_us >= self.step_us, f"at least step_us = {self.step_us}"),
            ("seed", self.seed >= 0, "0 or more"),
            ("seconds", self.seconds is None or self.seconds > 0, "a positive number"),
            ("motion", 0 <= self.motion <= 100, "0 to 100"),
        )
        for name, good, expected in checks:
            if not good:
                raise ConfigError(f"synthetic camera: {name} = {getattr(self, name)!r}, expected {expected}")


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """What the synthetic camera looks at: the exact image of any shutter, in any process."""

    scene: LayeredScene

    def radiance(self, t_us: float) -> Image:
        """Linear light at an instant of the device clock: float32 [H, W], 0..1."""
        return self.scene.radiance(t_us)

    def expose(self, shutter: Shutter) -> Image:
        """Expose any shutter: float32 [H, W], linear light, 0..1, no noise."""
        return expose(self.scene, shutter)

    def pixels(self, shutter: Shutter) -> NDArray[np.uint8]:
        """Expose any shutter as a perfect camera would: uint8 [H, W, 1]."""
        return quantised(self.expose(shutter))


def open_source(**settings: Any) -> SyntheticCamera:
    """Make a synthetic camera; see `SyntheticSettings` for names, units and defaults.

    Raises:
        ConfigError: a setting that does not exist or is out of range.
    """
    return SyntheticCamera(checked(SyntheticSettings, _NAME, settings))


def scene_of(**settings: Any) -> GroundTruth:
    """Rebuild the ground truth of `open_source(**settings)`, in whatever process.

    Raises:
        ConfigError: as `open_source`.
    """
    return _truth(checked(SyntheticSettings, _NAME, settings))


class SyntheticCamera:
    """The source. Each iteration starts the camera anew, at `CLOCK_START_US`."""

    def __init__(self, settings: SyntheticSettings) -> None:
        """Build scene and sensor; nothing moves before the iteration.

        Raises:
            ConfigError: the scene, the noise or the sensor is unknown or out of range.
        """
        self.settings = settings
        self._truth = _truth(settings)
        self._model = _model(settings)
        self._closed = False

    @property
    def has_frames(self) -> bool:
        """Whether it delivers frames."""
        return self.settings.frame_rate_hz > 0

    @property
    def info(self) -> SourceInfo:
        """What is known of it; events and frames share one clock and have no lag."""
        chosen = self.settings
        return SourceInfo(
            name=f"synthetic camera, scene {chosen.scene}, seed {chosen.seed}",
            geometry=Geometry(chosen.width, chosen.height),
            has_frames=self.has_frames,
            live=chosen.live,
            duration_us=None if chosen.seconds is None else round(chosen.seconds * 1e6),
            time_offset_us=0.0,
        )

    def __enter__(self) -> Self:
        """Open."""
        self._closed = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close: a running iteration ends at its next packet."""
        self._closed = True

    def __iter__(self) -> Iterator[EventBatch | Frame]:
        """Yield event batches every `packet_us` and each frame right after its read-out."""
        packets = self._packets()
        if self.settings.live:
            packets = _in_real_time(packets)
        for packet in packets:
            if self._closed:
                return
            yield packet

    def _packets(self) -> Iterator[EventBatch | Frame]:
        """Make the packets, without pacing: the same each time."""
        chosen = self.settings
        return packets_of_light(
            self._nodes(),
            shutters(
                rate_hz=chosen.frame_rate_hz,
                exposure_us=chosen.exposure_us,
                row_delay_us=chosen.row_delay_us,
                height=chosen.height,
                start_us=CLOCK_START_US,
            ),
            self._model,
            step_us=chosen.step_us,
            packet_us=chosen.packet_us,
            seed=chosen.seed,
            events=chosen.events,
        )

    def _nodes(self) -> Iterator[tuple[int, Image]]:
        """Light at each node, the last one at or after the end."""
        end_us = np.inf if self.settings.seconds is None else CLOCK_START_US + self.settings.seconds * 1e6
        node_us = CLOCK_START_US
        yield node_us, self._truth.scene.radiance(node_us)
        while node_us < end_us:
            node_us += self.settings.step_us
            yield node_us, self._truth.scene.radiance(node_us)


def _truth(settings: SyntheticSettings) -> GroundTruth:
    try:
        scene = make_scene(
            settings.scene,
            width=settings.width,
            height=settings.height,
            seed=settings.seed,
            motion=settings.motion,
        )
    except ValueError as error:
        raise ConfigError(f"synthetic camera: {error}") from error
    return GroundTruth(scene)


def _model(settings: SyntheticSettings) -> SensorModel:
    try:
        return replace(sensor_model(settings.noise), **settings.sensor)
    except (TypeError, ValueError) as error:
        names = ", ".join(item.name for item in fields(SensorModel))
        raise ConfigError(f"synthetic camera: {error}; 'sensor' may set {names}") from error


def _in_real_time(packets: Iterator[EventBatch | Frame]) -> Iterator[EventBatch | Frame]:
    """Hold every packet until the moment at which a camera could have sent it, and stamp it then."""
    origin_ns: int | None = None
    complained = False
    for packet in packets:
        # An event batch is out at its watermark; the frame that follows it, at once.
        known_us = packet.watermark_us if isinstance(packet, EventBatch) else 0
        now_ns = time.monotonic_ns()
        origin_ns = now_ns if origin_ns is None else origin_ns
        wait_ns = origin_ns + (known_us - CLOCK_START_US) * 1000 - now_ns
        if wait_ns > 0:
            time.sleep(wait_ns * 1e-9)
        elif known_us and wait_ns < -_LATE_NS and not complained:
            _log.warning("the synthetic camera is %.1f s late: this machine is too slow or too busy", -wait_ns * 1e-9)
            complained = True
        yield replace(packet, received_ns=time.monotonic_ns())
