"""The two sockets of a nire-live stream, for both nodes: the newest image, and requests. Needs pyzmq."""

from __future__ import annotations

import time
from typing import Any

import msgpack
import zmq

from nire_ros2 import conversion

_ANSWER_MS = 2000
_FOLLOWS_MS = 1000
# While a stream is awaited: how often it is asked, and how long an answer may take (a stream has 200 ms).
_AGAIN_S, _KNOCK_MS = 1.0, 500


class NobodyAnswers(ValueError):
    """There is no stream, or none yet."""


class Stream:
    """Subscribes to the images of the plan and of `expose`; for one thread at a time."""

    def __init__(self, address: str, control: str, tag: str) -> None:
        """Connect; the stream may come later."""
        self._context = zmq.Context()
        self._control = control
        self._wanted = b""
        self._ask_s = 0.0
        self._images = self._subscribed(address, f"frame/{tag}", newest_only=True)
        self._answers = self._subscribed(address, "frame/ros", newest_only=False)

    def want(self, request: bytes) -> None:
        """Send a request, a plan say, once the stream is there: `newest` sees to it."""
        self._wanted = request

    def newest(self) -> conversion.Received | None:
        """The newest image that was not taken yet; None where there is none.

        Raises:
            ValueError: it cannot be shown, or what was wanted is refused.
        """
        if self._wanted and time.monotonic() >= self._ask_s:
            self._ask_wanted()
        return conversion.received(self._images.recv(), time.time_ns()) if self._images.poll(0) else None

    def expose(self, stamp_ns: int, exposure_us: float) -> conversion.Received:
        """Ask for one image around a ROS time.

        Raises:
            ValueError: the stream says why not, or nothing comes.
        """
        reply = self.ask(conversion.expose_request(stamp_ns, exposure_us))
        while self._answers.poll(_FOLLOWS_MS):
            image = conversion.received(self._answers.recv(), stamp_ns)
            if image.header["index"] == reply["index"]:
                return image
        raise ValueError("the stream answers, but no image comes")

    def ask(self, request: bytes, *, answer_ms: int = _ANSWER_MS) -> dict[str, Any]:
        """Send a request of docs/wire-format.md.

        Raises:
            ValueError: the stream says why not.
            NobodyAnswers: it does not answer in time.
        """
        with self._context.socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.connect(self._control)
            socket.send(request)
            if not socket.poll(answer_ms):
                raise NobodyAnswers(f"nobody answers at {self._control}: is the stream running?")
            reply: dict[str, Any] = msgpack.unpackb(socket.recv())
        if not reply["ok"]:
            raise ValueError(str(reply["hint"]))
        return reply

    def close(self) -> None:
        """Disconnect."""
        self._context.destroy(linger=0)

    def _ask_wanted(self) -> None:
        try:
            self.ask(self._wanted, answer_ms=_KNOCK_MS)
        except NobodyAnswers:
            self._ask_s = time.monotonic() + _AGAIN_S
            return
        except ValueError:
            self._wanted = b""
            raise
        self._wanted = b""

    def _subscribed(self, address: str, topic: str, *, newest_only: bool) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.CONFLATE, int(newest_only))
        socket.setsockopt(zmq.SUBSCRIBE, topic.encode() + b"\0")
        socket.connect(address)
        return socket
