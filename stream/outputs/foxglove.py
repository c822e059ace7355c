"""A live source for Foxglove: images, events as a picture, latencies and thresholds over its WebSocket."""

from __future__ import annotations

import importlib.util
import time
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.install import pip_install
from nire.types import ExposedFrame
from stream.config import is_loopback
from stream.sockets.wire import Message

TARGET = "127.0.0.1:8766"
TOPICS = ("captured", "events", "status")
_FRAME_ID = "camera"
_BACKLOG = 64  # messages kept for a viewer that is slow; beyond that it misses some


def missing() -> str:
    """Tell what to install."""
    return "" if importlib.util.find_spec("foxglove") else pip_install("foxglove")


def follow(target: str) -> FoxgloveServer:
    """Serve at host:port; Foxglove opens ws://host:port.

    Raises:
        ConfigError: it is no host:port of this machine's loopback, or in use.
    """
    return FoxgloveServer(target)


class FoxgloveServer:
    """Channels `/exposed`, `/captured` and `/events` (foxglove.RawImage), and `/status` (JSON, once a second).

    Stamps are wall time of the middle of the exposure, or the time of sending where that is not known. An event image
    is gray: 128 and the count, brighter minus darker.
    """

    def __init__(self, bind: str) -> None:
        """Begin to serve; see `follow`."""
        import foxglove
        from foxglove.channels import RawImageChannel

        host, _, port = bind.rpartition(":")
        if not host or not port.isdigit() or not is_loopback(bind):
            raise ConfigError(
                f"--to {bind!r}: expected host:port on loopback, for example {TARGET}: everybody who reaches it sees "
                "the images. From another machine use an SSH tunnel"
            )
        self._messages: Any = foxglove.messages
        self._context = context = foxglove.Context()  # without it its channels are closed
        try:
            self._server = foxglove.start_server(
                name="nire-live", host=host, port=int(port), context=context, message_backlog_size=_BACKLOG
            )
        except RuntimeError as error:
            raise ConfigError(f"cannot serve at {bind}: {error}") from error
        self._images = {
            name: RawImageChannel(f"/{name}", context=context) for name in ("exposed", "captured", "events")
        }
        self._status = foxglove.Channel("/status", schema={"type": "object"}, context=context)

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Show an exposed frame."""
        self._show("exposed", frame.pixels, frame.wall_ns)

    def take(self, message: Message) -> None:
        """Show what the stream says on another topic."""
        wall_ns = message.header.get("wall_ns")
        if message.topic == "status":
            told = {key: value for key, value in message.header.items() if value is not None}
            self._status.log(told, log_time=wall_ns or time.time_ns())
        elif isinstance(message.pixels, np.ndarray):
            signed = message.pixels.dtype == np.int8
            pixels = (message.pixels.astype(np.int16) + 128).astype(np.uint8) if signed else message.pixels
            self._show(message.topic, pixels, wall_ns)

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self._server.stop()

    def _show(self, name: str, pixels: NDArray[np.uint8], wall_ns: int | None) -> None:
        stamp_ns = time.time_ns() if wall_ns is None else wall_ns
        height, width, channels = pixels.shape
        image = self._messages.RawImage(
            timestamp=self._messages.Timestamp(sec=stamp_ns // 10**9, nsec=stamp_ns % 10**9),
            frame_id=_FRAME_ID,
            width=width,
            height=height,
            encoding="mono8" if channels == 1 else "rgb8",
            step=width * channels,
            data=np.ascontiguousarray(pixels).tobytes(),
        )
        self._images[name].log(image, log_time=stamp_ns)
