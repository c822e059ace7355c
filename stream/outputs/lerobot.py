"""LeRobot's camera `zmq`: a robot of LeRobot takes images by its own config alone."""

from __future__ import annotations

import base64
import json
import time
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import zmq

from nire.types import ExposedFrame
from stream.sockets.binding import bind

TARGET = "tcp://127.0.0.1:5555"
_NAME = "camera"
_QUALITY = 90


def follow(target: str) -> LeRobotCamera:
    """Publish at a ZMQ address, to which LeRobot connects.

    Raises:
        ConfigError: the address cannot be bound.
    """
    return LeRobotCamera(target)


class LeRobotCamera:
    """Publishes {"timestamps": {"camera": seconds}, "images": {"camera": JPEG in base64}}, one JSON text a message.

    LeRobot shows the bytes of a JPEG in the order in which OpenCV decodes them, and takes that for RGB. So RGB goes in
    as it is. Seconds are wall time of the middle of the exposure, since 1970; of sending where that is not known.
    """

    def __init__(self, address: str) -> None:
        """Bind.

        Raises:
            ConfigError: the address cannot be bound.
        """
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.sndhwm = 4
        self._socket.linger = 0
        try:
            self.address = bind(self._socket, "--to", address)
        except BaseException:
            self._close()
            raise

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Send an image; a robot that is slower than the stream misses some."""
        seconds = time.time() if frame.wall_ns is None else frame.wall_ns * 1e-9
        _, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(frame.pixels), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        image = base64.b64encode(jpeg).decode("ascii")
        self._socket.send_string(json.dumps({"timestamps": {_NAME: seconds}, "images": {_NAME: image}}))

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self._close()

    def _close(self) -> None:
        self._socket.close()
        self._context.term()
