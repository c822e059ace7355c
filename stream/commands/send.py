"""Send the images of a running stream on in another form: to LeRobot, a video device, Foxglove."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, suppress
from typing import Annotated, Any

import typer

from nire.errors import NireError
from stream.api import connect
from stream.options import DEFAULT_CONTROL, LogLevel, OwnKey, ServerKey, configure_log, keys_of
from stream.outputs import follow_output, topics_of
from stream.sockets.subscriber import Subscriber

_log = logging.getLogger(__name__)


def command(
    output: Annotated[str, typer.Argument(help="Its name; `nire-live outputs` lists them.", show_default=False)],
    to: Annotated[str, typer.Option(help="Where to: an address or a device.", show_default=False)] = "",
    address: Annotated[str, typer.Option(help="The stream's publishing address.")] = "tcp://127.0.0.1:5556",
    control: Annotated[str, typer.Option(help="The stream's control address.")] = DEFAULT_CONTROL,
    rate: Annotated[float, typer.Option(min=0.1, help="At most so many images a second.")] = 60.0,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many images.", show_default=False)] = None,
    own_key: OwnKey = None,
    server_key: ServerKey = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Send the images of a running stream on in another form, the newest ones; the stream never waits for it."""
    configure_log(log_level)
    keys = keys_of(own_key, server_key)
    sent = 0
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        sink: Any = stack.enter_context(follow_output(output, to))  # those that name topics can take them
        stream = stack.enter_context(connect(address, control, keys=keys))
        others = [
            stack.enter_context(Subscriber(address, [topic], newest_only=True, keys=keys))
            for topic in topics_of(output)
        ]
        while count is None or sent < count:
            began_s = time.monotonic()
            try:
                frame = stream.newest()
            except NireError as error:
                _log.warning("%s", error)  # it may come, or come back
                continue
            sink.write(frame, index=frame.index)
            for subscriber in others:
                if (message := subscriber.recv(0)) is not None:
                    sink.take(message)
            sent += 1
            time.sleep(max(0.0, began_s + 1 / rate - time.monotonic()))
