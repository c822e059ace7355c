"""A robot that wants to know how the scene looked at one chosen instant: it asks, and waits for that frame.

The instant is in device time, the clock of the camera. Here it lies a little before the newest moment that the
stream can answer; a robot would take the time stamp of its own trigger.

    python examples/robot_ask_for_instant.py --ago-ms 5 --out instant.png
"""

from __future__ import annotations

import argparse
import sys
import time

import cv2
import numpy as np

from nire.errors import NireError
from stream.sockets.control import ControlClient
from stream.sockets.subscriber import Subscriber
from stream.sockets.wire import Message

TAG = "robot"


def main() -> int:
    arguments = _arguments()
    # The subscription must be in place before the question: the frame is published before the answer is sent.
    # Once a status has come through the same socket, it is.
    with (
        Subscriber(arguments.publish, [f"frame/{TAG}", "status"]) as frames,
        ControlClient(arguments.control) as stream,
    ):
        _wait_for(frames, "status")
        answer = _ask(stream, arguments.ago_ms * 1000, arguments.for_us)
        if not answer["ok"]:
            print(f"{answer['error']}: {answer['hint']}", file=sys.stderr)
            return 3 if answer["error"] == "not_covered" else 2
        frame = _wait_for(frames, answer["topic"], answer["index"])
    assert isinstance(frame.pixels, np.ndarray)
    cv2.imwrite(arguments.out, frame.pixels)
    print(f"exposed at {frame.header['t_a_us']:.0f} us, index {answer['index']}: {arguments.out}")
    return 0


def _ask(stream: ControlClient, ago_us: float, for_us: float) -> dict[str, object]:
    """Ask for an instant `ago_us` before the newest that can be answered; wait while the stream warms up."""
    for _ in range(100):
        covered_us = stream.ask("status")["covered_us"]
        if covered_us is not None:
            return stream.ask("expose", t_us=covered_us[1] - ago_us - for_us, for_us=for_us, tag=TAG)
        time.sleep(0.1)
    raise NireError("the stream has no window to answer from: do frames arrive?")


def _wait_for(frames: Subscriber, topic: str, index: int | None = None) -> Message:
    """Receive until the message of that topic, and that index, is here."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        message = frames.recv(timeout_ms=500)
        if message and message.topic == topic and index in (None, message.header.get("index")):
            return message
    raise NireError(f"nothing came on {topic} within 10 s: is a stream running at {frames.address}?")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--publish", default="tcp://127.0.0.1:5556", help="the stream's publishing address")
    parser.add_argument("--control", default="tcp://127.0.0.1:5557", help="the stream's control address")
    parser.add_argument("--ago-ms", type=float, default=5.0, help="how long before the newest answerable moment")
    parser.add_argument("--for-us", type=float, default=0.0, help="exposure, 0 = an instant")
    parser.add_argument("--out", default="instant.png", help="where to write the image")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NireError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
