"""An event camera and a frame camera as one source: trigger edges tell exposures, frames take the events' pixels."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from drivers import detect
from drivers.cameras.hybrid.edges import EdgeCounters
from drivers.cameras.hybrid.frame_cameras import FrameCamera, missing_package_of, open_frame_camera
from drivers.cameras.hybrid.frame_feed import FrameFeed
from drivers.cameras.hybrid.pairing import Pairing, Wiring
from drivers.cameras.hybrid.registration import Registration, load_registration
from drivers.source import Source, SourceInfo
from nire.errors import ConfigError, SourceError
from nire.types import SourcePacket, Transfer

_TOLERABLE_ROWS_US = 200.0
_log = logging.getLogger(__name__)


def open_source(
    events: Mapping[str, Any] | None = None,
    frames: Mapping[str, Any] | None = None,
    *,
    path: str | Path = "",
    active: Literal["high", "low"] = "high",
    channel: int | None = None,
    clock: Literal["auto", "events"] = "auto",
    latency_us: float | None = None,
    first_pulse: int = 0,
    exposure_us: float = 0.0,
    start_delay_us: float = 0.0,
    end_delay_us: float = 0.0,
    registration: str | Path = "",
    depth: float = 0.0,
    row_delay_us: float = 0.0,
    transfer: Transfer | Literal["auto"] = "auto",
    outside: Literal["drop", "keep"] = "drop",
) -> Source:
    """Make one source of an event source that has trigger edges and a frame camera.

    Args:
        events: `driver` (any driver, or "auto" for a recording) and that driver's own settings.
        frames: `driver` (a file of `drivers/frame_cameras`) and that camera's own settings.
        path: a recording that takes the place of `events`. Where the frame camera is a live one, a recording that
            has frames is played as it is.
        active: "high": the line rises when the exposure starts; "low": it falls.
        channel: of the trigger input; None = the one that there is.
        clock: "events": the frames' stamps are by the event camera's clock. "auto": another clock; live cameras are
            compared by when data arrived, and in recordings the first frame belongs to the first pulse.
        latency_us: the stamp of a frame minus the start of its exposure, where that is known: live by the host's
            clock, for "events" by that one.
        first_pulse: recordings: so many pulses come before that of the first frame.
        exposure_us: > 0: the line signals only the start, and exposures are so long.
        start_delay_us, end_delay_us: so much later than the exposure the line's two edges are.
        registration: file that maps frames to the event sensor, see `drivers.registration.load_registration`.
        depth: distance of the scene for a stereo calibration; 0 = far away.
        row_delay_us: alpha of the frame camera's rolling shutter, per row of its own; edges are those of its first row.
        transfer: of the frames; "auto" = what their camera says.
        outside: "drop" the events of pixels that the frame camera does not see, or "keep" them.

    Raises:
        ConfigError: a word or a number that is not understood, or `events` or `frames` is missing.
    """
    wanted = Wiring(
        active,
        channel,
        clock,
        latency_us,
        first_pulse,
        exposure_us,
        start_delay_us,
        end_delay_us,
        registration,
        depth,
        row_delay_us,
        transfer,
        outside,
    )
    _check(wanted)
    if frames is None or "driver" not in frames:
        raise ConfigError(
            "hybrid: [source.settings.frames] needs driver = 'opencv', 'genicam' or 'recorded', and its settings"
        )
    camera = open_frame_camera(str(frames["driver"]), **{key: frames[key] for key in frames if key != "driver"})
    if path:
        return _with_recording(Path(path), events or {}, camera, str(frames["driver"]), wanted)
    if events is None or "driver" not in events:
        raise ConfigError("hybrid: [source.settings.events] needs driver = NAME, and that driver's settings")
    return HybridSource(_event_source(events), camera, wanted)


def missing_sdk(events: Mapping[str, Any] | None = None, frames: Mapping[str, Any] | None = None) -> str:
    """Say what the two cameras lack; "" where nothing is missing, or none is named yet.

    Raises:
        ConfigError: no such driver.
    """
    event_driver, frame_driver = (
        str(side.get("driver", "auto")) if isinstance(side, Mapping) else "auto" for side in (events, frames)
    )
    lacks = [detect.missing_sdk(event_driver)] if event_driver not in ("auto", "hybrid") else []
    return "; ".join(filter(None, [*lacks, missing_package_of(frame_driver)]))


class HybridSource:
    """The source; live when its event source is.

    Attributes:
        counters: what became of edges and frames so far.
        has_frames: always.
    """

    has_frames = True

    def __init__(self, events: Source, camera: FrameCamera, settings: Wiring) -> None:
        """Remember both; nothing is opened before `with`."""
        self.counters = EdgeCounters()
        self._events = events
        self._camera = camera
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._info: SourceInfo | None = None
        self._registration: Registration | None = None

    @property
    def info(self) -> SourceInfo:
        """What is known of both; complete once entered."""
        if self._info is None:
            raise SourceError("the hybrid source is not open: use it in a with statement")
        return self._info

    def __enter__(self) -> Self:
        """Open both cameras and read the registration.

        Raises:
            SourceError: a camera cannot be opened, or a recording is to be combined with a live frame camera.
            ConfigError: the registration cannot be used.
        """
        with contextlib.ExitStack() as stack:
            events = stack.enter_context(self._events).info
            camera = stack.enter_context(self._camera).info
            if camera.live and not events.live:
                raise SourceError(
                    f"{events.name} is a recording and {camera.name} a live camera: they show different moments. Use "
                    "recorded frames (source.settings.frames.driver = 'recorded')"
                )
            self._registration = load_registration(
                self._settings.registration,
                frame_size=(camera.width, camera.height),
                event_size=(events.geometry.width, events.geometry.height),
                depth=self._settings.depth,
            )
            _warn_of_tilted_rows(self._registration, self._settings.row_delay_us)
            self._info = replace(
                events,
                name=f"{events.name} + {camera.name}",
                geometry=replace(events.geometry, channels=camera.channels),
                has_frames=True,
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both."""
        self._stack.close()

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield events, triggers, and frames with their exposures by the event camera's clock.

        Raises:
            SourceError: not one frame of a recording could be given an exposure; or what the cameras raise.
        """
        info = self.info
        assert self._registration is not None  # entered
        transfer = self._camera.info.transfer if self._settings.transfer == "auto" else self._settings.transfer
        run = Pairing(self._settings, self._registration, transfer, live=info.live)
        self.counters = run.matcher.counters
        with FrameFeed(self._camera) as feed:
            for packet in self._events:
                yield from run.take(packet, feed)
            yield from run.finish(feed)
        run.report(info)


def _check(settings: Wiring) -> None:
    checks = (
        ("active", settings.active in ("high", "low"), "'high' or 'low'"),
        ("clock", settings.clock in ("auto", "events"), "'auto' or 'events'"),
        ("outside", settings.outside in ("drop", "keep"), "'drop' or 'keep'"),
        ("transfer", settings.transfer in ("auto", "linear", "srgb"), "'auto', 'linear' or 'srgb'"),
        ("first_pulse", settings.first_pulse >= 0, "0 or more"),
        ("exposure_us", 0 <= settings.exposure_us <= 10e6, "0 to 10000000"),
        ("depth", settings.depth >= 0, "0 or more"),
        ("row_delay_us", abs(settings.row_delay_us) <= 1e4, "-10000 to 10000"),
    )
    for name, good, expected in checks:
        if not good:
            raise ConfigError(f"hybrid: {name} = {getattr(settings, name)!r}, expected {expected}")


def _event_source(events: Mapping[str, Any]) -> Source:
    settings = {name: value for name, value in events.items() if name != "driver"}
    if events["driver"] == "hybrid":
        raise ConfigError("hybrid: the event source of a hybrid source cannot be another one")
    if events["driver"] == "auto":
        if "path" not in settings:
            raise ConfigError("hybrid: events.driver = 'auto' tells a recording from its content: set events.path")
        return detect.open_recording(settings.pop("path"), **settings)
    return detect.open_driver(str(events["driver"]), **settings)


def _with_recording(
    path: Path, events: Mapping[str, Any], camera: FrameCamera, frames_driver: str, settings: Wiring
) -> Source:
    if frames_driver != "recorded":
        # What was recorded from these two cameras holds their frames already.
        return detect.open_recording(path)
    driver = str(events.get("driver", "auto"))
    if driver != "auto" and detect.plays_recordings(driver):
        return HybridSource(_event_source({**events, "path": path}), camera, settings)
    return HybridSource(detect.open_recording(path), camera, settings)


def _warn_of_tilted_rows(registration: Registration, row_delay_us: float) -> None:
    error_us = abs(row_delay_us) * registration.row_error
    if error_us > _TOLERABLE_ROWS_US:
        _log.warning(
            "hybrid: the frame camera's rows lie askew on the event sensor: times of rows are wrong by up to %.0f us. "
            "Mount the cameras with parallel rows",
            error_us,
        )
