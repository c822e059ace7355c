"""The preview page as a process of a stream: it lives by signals, so orders are turned into one."""

from __future__ import annotations

import os
import signal
import threading

from stream.config import Config
from stream.preview import server
from stream.processes.board import State
from stream.processes.child import Child
from stream.sockets.keys import ClientKeys

_BEAT_S = 0.5


def main(child: Child, config: Config) -> int:
    """Serve the page of this stream until the supervisor says stop.

    Args:
        child: this process.
        config: of the stream; of several cameras that of any, for the page is one.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: the address cannot be bound.
    """
    threading.Thread(target=_listen, args=(child,), daemon=True, name="orders").start()
    server.main(
        config.publish.bind,
        config.control.bind,
        config.preview.bind,
        fps=config.preview.fps,
        keys=ClientKeys.of_server(config.security),
        open_browser=child.row["lives"] <= 1,
    )
    return 0


def _listen(child: Child) -> None:
    while not child.stopping:
        child.orders(timeout_s=_BEAT_S)
        child.beat(State.RUNNING)
    os.kill(os.getpid(), signal.SIGTERM)
