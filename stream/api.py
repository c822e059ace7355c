"""The library, imported as `nire_live`: recordings and cameras opened, windows exposed, running streams asked."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drivers import detect
from drivers.source import Source
from nire.errors import ConfigError
from nire.types import ExposedFrame
from stream.config import AUTO, Config, changed, load_config, with_settings
from stream.recording import Recording, session_of
from stream.sockets.connection import Connection
from stream.sockets.keys import ClientKeys
from stream.sources import SourceOrder, open_source

_SECTIONS = ("plan", "window", "reconstructor", "planes")


def open(path_or_driver: str | Path, *, config: str | Path | None = None, **settings: Any) -> Recording:
    """Open a recording or a camera; `close`, or the end of a `with` block, closes it.

    Args:
        path_or_driver: path of a recording, whose kind is told from its content; or the name of a camera's driver.
        config: a TOML file with further settings; None = the defaults.
        settings: settings of the driver.

    Raises:
        SourceError: there is no such file, no driver knows it, or the camera is not there.
        ConfigError: there is no such driver, or it has no such setting.
    """
    return Recording(*_asked(path_or_driver, config, settings))


def reexpose(
    path_or_driver: str | Path,
    plan: str = "upsample",
    *,
    config: str | Path | None = None,
    source: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[ExposedFrame]:
    """Compute the images of a plan over a whole recording, as `nire-live offline` does; nothing is dropped.

    Args:
        path_or_driver: as for `open`.
        plan: "deblur", "unroll", "upsample" or "reshutter".
        config: a TOML file with further settings; None = the defaults.
        source: settings of the driver.
        settings: keys of [plan] (rate_hz, exposure_us, row_delay_us, offset_us), [reconstructor] (backend, device,
            ...), [window] and [planes], without their section.

    Yields:
        Exposed frames, their pixels uint8 [H, W, C].

    Raises:
        ConfigError: a setting is unknown or out of range.
        SourceError: as for `open`; or the method needs frames and there are none.
        RecordingDamaged: the recording is damaged; raised after all images from before the damage.
    """
    wanted, order = _asked(path_or_driver, config, source or {})
    wanted = with_settings(changed(wanted, {"plan": {"name": plan}}), settings, _SECTIONS)
    return _reexposed(wanted, open_source(wanted.source, order))


def connect(
    address: str = "tcp://127.0.0.1:5556",
    control: str = "tcp://127.0.0.1:5557",
    *,
    keys: ClientKeys | None = None,
    timeout_s: float = 10.0,
    wait_s: float = 1.0,
    camera: str = "",
) -> Connection:
    """Connect to a running stream (`nire-live live` or `replay`), or to one that is there within `wait_s`.

    Args:
        address: where it publishes, `publish.bind` of its configuration.
        control: where it takes requests, `control.bind` of its configuration.
        keys: of this client and of the stream, if the stream has keys.
        timeout_s: how long an answer or a frame may take, seconds.
        wait_s: how long the stream may take to be there, seconds: more where it is started later.
        camera: its name, where the stream is of several; `Connection.cameras` tells which there are.

    Raises:
        ConfigError: an address is none that ZMQ knows.
        NireError: no stream is there in time.
    """
    return Connection(address, control, keys=keys, timeout_s=timeout_s, wait_s=wait_s, camera=camera)


def _asked(
    path_or_driver: str | Path, file: str | Path | None, settings: Mapping[str, Any]
) -> tuple[Config, SourceOrder]:
    config = load_config(file)
    configured = config.source
    driver = _driver(path_or_driver)
    if driver is not None:
        known = configured.settings if driver == configured.driver else {}
        changes: dict[str, Any] = {"driver": driver, "settings": {**known, **settings}}
        return changed(config, {"source": changes}), SourceOrder()
    changes = {"settings": {**configured.settings, **settings}}
    if configured.driver != AUTO and not detect.plays_recordings(configured.driver):
        # The config of a camera reads what was recorded with it; the camera's own settings are none of a file's.
        changes = {"driver": AUTO, "settings": dict(settings)}
    return changed(config, {"source": changes}), SourceOrder(Path(path_or_driver), speed=math.inf)


def _driver(path_or_driver: str | Path) -> str | None:
    """Tell the driver that is named; None where it is a file.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(path_or_driver, Path):
        return None
    if path_or_driver in detect.camera_names():
        return path_or_driver
    if Path(path_or_driver).exists() or "/" in path_or_driver:
        return None
    if "." not in path_or_driver:
        try:
            detect.driver_module(path_or_driver)
        except ConfigError as error:
            raise ConfigError(f"there is no file {path_or_driver}, and {error}") from None
        return path_or_driver
    try:
        return path_or_driver if importlib.util.find_spec(path_or_driver) else None
    except (ImportError, ValueError):
        return None


def _reexposed(config: Config, source: Source) -> Iterator[ExposedFrame]:
    with source:
        session, reading = session_of(config, source)
        yield from session.feed(reading)
        yield from session.finish()
    if reading.damage is not None:
        raise reading.damage
