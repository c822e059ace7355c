"""A running stream, sent on: the newest images to an output, and what it takes beside them."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import Any

from nire.errors import ConfigError, NireError
from stream.api import connect
from stream.outputs import follow_output, topics_of
from stream.sockets.keys import ClientKeys
from stream.sockets.subscriber import Subscriber

_log = logging.getLogger(__name__)


def send_on(
    output: str,
    to: str,
    *,
    address: str,
    control: str,
    rate_hz: float,
    count: int | None = None,
    keys: ClientKeys | None = None,
    camera: str = "",
) -> None:
    """Send the newest images until there were `count`, or forever; the stream never waits.

    Args:
        output: name of an output of running streams, a file in `stream/outputs`.
        to: where to; "" = as the output finds right.
        address: the stream's publishing address.
        control: its control address.
        rate_hz: at most so many images a second.
        count: end after so many images.
        keys: where the stream has keys.
        camera: whose images, where the stream is of several.

    Raises:
        ConfigError: there is no such camera or output, it lacks something, or it cannot send there.
    """
    sent = 0
    with ExitStack() as stack:
        sink: Any = stack.enter_context(follow_output(output, to))  # those that name topics can take them
        stream = stack.enter_context(connect(address, control, keys=keys, camera=camera))
        others = [
            stack.enter_context(Subscriber(address, [topic], newest_only=True, keys=keys, camera=camera))
            for topic in topics_of(output)
        ]
        while count is None or sent < count:
            began_s = time.monotonic()
            try:
                frame = stream.newest()
            except ConfigError:
                raise  # the stream has no such camera
            except NireError as error:
                _log.warning("%s", error)  # it may come, or come back
                continue
            sink.write(frame, index=frame.index)
            for subscriber in others:
                if (message := subscriber.recv(0)) is not None:
                    sink.take(message)
            sent += 1
            time.sleep(max(0.0, began_s + 1 / rate_hz - time.monotonic()))
