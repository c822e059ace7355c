"""Look at a running stream in a viewer of one's own: rerun's or Foxglove."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from nire.errors import ConfigError
from stream.options import (
    DEFAULT_CONTROL,
    DEFAULT_IMAGES,
    CameraName,
    LogLevel,
    OwnKey,
    ServerKey,
    configure_log,
    keys_of,
)
from stream.sending import send_on


def command(
    address: Annotated[str, typer.Argument(help="The stream's publishing address.")] = DEFAULT_IMAGES,
    rerun: Annotated[bool, typer.Option("--rerun", help="Start rerun's viewer.")] = False,
    foxglove: Annotated[bool, typer.Option("--foxglove", help="Serve for Foxglove, at ws://127.0.0.1:8766.")] = False,
    control: Annotated[str, typer.Option(help="The stream's control address.")] = DEFAULT_CONTROL,
    rate: Annotated[float, typer.Option(min=0.1, help="At most so many images a second.")] = 30.0,
    camera: CameraName = "",
    own_key: OwnKey = None,
    server_key: ServerKey = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Look at a running stream in rerun's viewer or in Foxglove: `send` to where these look by themselves."""
    if rerun == foxglove:
        raise ConfigError(
            "say in which viewer: --rerun or --foxglove; in a browser, nire-live preview shows the stream"
        )
    configure_log(log_level)
    viewer = "rerun" if rerun else "foxglove"
    with suppress(KeyboardInterrupt):
        send_on(
            viewer, "", address=address, control=control, rate_hz=rate, keys=keys_of(own_key, server_key), camera=camera
        )
