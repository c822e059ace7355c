"""From the configuration to a source: a driver by name, or a recording told from its content, paced and looped."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers import detect
from drivers.packets.playback import looped, paced
from drivers.source import Source
from nire.errors import ConfigError, SdkMissing
from stream.config_sections import SourceConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceOrder:
    """What to play, and how.

    Attributes:
        recording: a file; None = the configured driver, with its own settings.
        speed: of a recording: 1 = as it was; `math.inf` = as fast as the slowest reader, without loss.
        loops: rounds; 0 = for ever, 1 = once.
    """

    recording: Path | None = None
    speed: float = 1.0
    loops: int = 1


def open_source(source: SourceConfig, order: SourceOrder) -> Source:
    """Make the source that the configuration and the order name; entering it opens it.

    Raises:
        ConfigError: no such driver, or settings that it does not take.
        SourceError: the recording is none that any driver knows.
    """
    played = _open_once(source, order)
    if order.recording is None:
        return played
    if order.loops != 1:
        played = looped(lambda: _open_once(source, order), order.loops)
    return played if math.isinf(order.speed) else paced(played, order.speed)


def check_settings(source: SourceConfig) -> Source | None:
    """Check the settings of the configured driver, without opening anything.

    Returns:
        The source, not opened; None where a recording is still to be named, whose driver may be told from it.

    Raises:
        ConfigError: no such driver, or settings that it does not take.
    """
    if source.driver == "auto":
        return None
    if detect.needs_path(source.driver, **source.settings):
        detect.check_driver(source.driver, **source.settings)
        return None
    return detect.open_driver(source.driver, **source.settings)


def check_change(settings: Mapping[str, Any], changed: SourceConfig, order: SourceOrder) -> None:
    """Check a change of settings that needs the source to be opened again, as far as it tells before; opens nothing.

    Args:
        settings: that shall change.
        changed: the configuration with them.
        order: that the source is opened by.

    Raises:
        ConfigError: the driver does not take them, or what is played has nothing of them.
        SourceError: the recording went away.
    """
    if order.recording is not None and not _has_settings(changed):
        raise ConfigError(
            f"{order.recording} is being played: source.driver = {changed.driver!r} and its settings are set aside"
        )
    if order.recording is not None and "path" in settings:
        raise ConfigError(f"{order.recording} is being played: for another recording, start another stream")
    open_source(changed, order)


def check_sdk(source: SourceConfig) -> None:
    """Check that what the configured driver talks through is installed.

    Raises:
        ConfigError: no such driver.
        SdkMissing: it is not; says what to install.
    """
    if source.driver == "auto":
        return
    if missing := detect.missing_sdk(source.driver, **source.settings):
        raise SdkMissing(f"source.driver = {source.driver!r} needs what is not installed: {missing}")


def frames_of(source: Source | None) -> tuple[bool, ...]:
    """Tell whether a source that was not opened will deliver frames: both where only opening it tells."""
    told = getattr(source, "has_frames", None)
    return (told,) if isinstance(told, bool) else (True, False)


def _open_once(source: SourceConfig, order: SourceOrder) -> Source:
    if order.recording is None:
        if source.driver == "auto":
            raise ConfigError(
                "source.driver = 'auto' tells a recording from its content, but no recording was given. Name a driver: "
                + ", ".join(detect.driver_names())
            )
        return detect.open_driver(source.driver, **source.settings)
    if source.driver == "auto":
        return detect.open_recording(order.recording, **source.settings)
    if _has_settings(source):
        return detect.open_driver(source.driver, **{**source.settings, "path": order.recording})  # for another one
    # The config of a camera plays what was recorded with it; the camera's own settings are none of a file's.
    _log.info("%s is a recording: source.driver = %r and its settings are set aside", order.recording, source.driver)
    return detect.open_recording(order.recording)


def _has_settings(source: SourceConfig) -> bool:
    """Tell whether the configured settings are those of a recording that is played."""
    return source.driver == "auto" or detect.plays_recordings(source.driver)
