"""Stream from one camera or several until Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from drivers.detect import is_recording
from nire.errors import ConfigError
from stream.cameras import load_cameras
from stream.config import Config, NoTomlError
from stream.options import ConfigFiles, LogLevel, Overrides, Preview, Seconds, configure_log, supervise
from stream.sources import SourceOrder


def command(
    configs: ConfigFiles,
    preview: Preview = False,
    seconds: Seconds = None,
    overrides: Overrides = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Stream from a camera until Ctrl-C; from several, a file each, under one supervisor and on one socket."""
    configure_log(log_level)
    loaded = _loaded(configs, overrides or ())
    if faults := [
        f"{path}: source.driver = 'auto' tells a recording's kind; for a live stream name the camera's driver "
        "('nire-live devices' lists them)"
        for path, config in zip(configs, loaded, strict=True)
        if config.source.driver == "auto"
    ]:
        raise ConfigError("\n".join(faults))
    supervise(loaded, SourceOrder(), preview=preview, seconds=seconds)


def _loaded(configs: Sequence[Path], overrides: Iterable[str]) -> Sequence[Config]:
    """Load the configs; a recording in the place of one is said to be one."""
    try:
        return load_cameras(configs, overrides)
    except NoTomlError as error:
        if is_recording(error.path):
            wanted = f"'nire-live replay {error.path}' plays it"
            raise ConfigError(f"{error.path} is no TOML file but a recording: {wanted}") from None
        raise
