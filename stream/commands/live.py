"""Stream from a camera until Ctrl-C."""

from __future__ import annotations

from nire.errors import ConfigError
from stream.options import ConfigFile, LogLevel, Overrides, Preview, Seconds, load, supervise
from stream.sources import SourceOrder


def command(
    config: ConfigFile,
    preview: Preview = False,
    seconds: Seconds = None,
    overrides: Overrides = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Stream from a camera until Ctrl-C."""
    loaded = load(config, overrides, log_level)
    if loaded.source.driver == "auto":
        raise ConfigError(
            f"{config}: source.driver = 'auto' tells a recording's kind; for a live stream name the camera's driver "
            "('nire-live devices' lists them)"
        )
    supervise(loaded, SourceOrder(), preview=preview, seconds=seconds)
