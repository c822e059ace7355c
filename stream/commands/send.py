"""Send the images of a running stream on in another form: to LeRobot, a video device, Foxglove."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

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
    output: Annotated[str, typer.Argument(help="Its name; `nire-live outputs` lists them.", show_default=False)],
    to: Annotated[str, typer.Option(help="Where to: an address or a device.", show_default=False)] = "",
    address: Annotated[str, typer.Option(help="The stream's publishing address.")] = DEFAULT_IMAGES,
    control: Annotated[str, typer.Option(help="The stream's control address.")] = DEFAULT_CONTROL,
    rate: Annotated[float, typer.Option(min=0.1, help="At most so many images a second.")] = 60.0,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many images.", show_default=False)] = None,
    camera: CameraName = "",
    own_key: OwnKey = None,
    server_key: ServerKey = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Send the images of a running stream on in another form, the newest ones; the stream never waits for it."""
    configure_log(log_level)
    keys = keys_of(own_key, server_key)
    with suppress(KeyboardInterrupt):
        send_on(output, to, address=address, control=control, rate_hz=rate, count=count, keys=keys, camera=camera)
