"""The sockets: exposed frames a second from a publisher to a subscriber in another process."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection

import numpy as np

from nire.shutter import Shutter
from nire.types import ExposedFrame, Stamps
from stream.config import PublishConfig, SecurityConfig
from stream.sockets.publisher import Publisher
from stream.sockets.subscriber import Subscriber

from .ports import free_address
from .report import Result

_FRAMES = 6000
_HEIGHT, _WIDTH = 260, 346


def run() -> list[Result]:
    """Send 6,000 frames of 346 x 260 as fast as the subscriber takes them."""
    address = free_address()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    reader = context.Process(target=_receive, args=(address, theirs), daemon=True)
    reader.start()
    publisher = Publisher(PublishConfig(bind=address, high_water_mark=_FRAMES), SecurityConfig())
    try:
        while not publisher.wants("frame/bench"):
            time.sleep(0.01)
        frame = _frame()
        for _ in range(_FRAMES):
            publisher.send_frame(frame)
        received, seconds = ours.recv()
    finally:
        publisher.close()
        reader.join(10)
    return [Result("frames_per_s", received / seconds, "frames/s", "346 x 260 gray, TCP on loopback, two processes")]


def _frame() -> ExposedFrame:
    pixels = np.random.default_rng(1).integers(0, 255, (_HEIGHT, _WIDTH, 1)).astype(np.uint8)
    return ExposedFrame(0, 0, pixels, Shutter.instant(0.0, _HEIGHT), "bench", Stamps(0.0))


def _receive(address: str, result: Connection) -> None:
    subscriber = Subscriber(address, ["frame/bench"], high_water_mark=_FRAMES)
    received, first = 0, 0.0
    while received < _FRAMES and subscriber.recv(timeout_ms=3000) is not None:
        first = first or time.perf_counter()
        received += 1
    result.send((received - 1, time.perf_counter() - first))
    subscriber.close()
