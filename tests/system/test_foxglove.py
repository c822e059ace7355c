"""Foxglove, process to process: a WebSocket client gets the pixels and stamps that the wire has."""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest

from nire.errors import ConfigError
from stream.outputs import follow_output
from stream.sockets.subscriber import Subscriber
from stream.sockets.wire import Message
from tests.stream.fake_stream import FakeStream
from tests.system.live_stream import ROOT, free_ports
from tests.waiting import PATIENCE_MS, PATIENCE_S

pytest.importorskip("foxglove", reason="needs foxglove-sdk")
pytestmark = pytest.mark.system
_TOPICS = ("/exposed", "/captured", "/events", "/status")


@pytest.fixture
def stream() -> Iterator[FakeStream]:
    stream = FakeStream()
    yield stream
    stream.close()


def test_viewer_gets_pixels_and_stamps_of_the_wire(stream: FakeStream) -> None:
    (port,) = free_ports(1)
    words = [sys.executable, "-m", "stream.cli", "send", "foxglove", "--to", f"127.0.0.1:{port}", "--rate", "200"]
    words += ["--address", stream.address, "--control", stream.control.address]
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        with Subscriber(stream.address, ["frame/deblur", "captured", "events"], high_water_mark=100_000) as subscriber:
            got = asyncio.run(asyncio.wait_for(_looked(port), PATIENCE_S))
            sent = _until(subscriber, time.monotonic_ns())
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
    stamp_ns, image = got["/exposed"]
    wire = next(message for message in sent if message.header.get("wall_ns") == stamp_ns)
    assert image["seconds"] * 10**9 + image["nanoseconds"] == stamp_ns
    assert image["encoding"] == "mono8"
    np.testing.assert_array_equal(image["pixels"], wire.pixels)
    seen = {topic: [np.asarray(message.pixels) for message in sent if message.topic == topic[1:]] for topic in _TOPICS}
    assert any(np.array_equal(got["/captured"][1]["pixels"], pixels) for pixels in seen["/captured"])
    assert any(np.array_equal(got["/events"][1]["pixels"].astype(int) - 128, pixels) for pixels in seen["/events"])
    assert got["/status"][1]["calibration"]["threshold_positive"] == pytest.approx(0.2213)


def test_address_that_others_reach_is_refused() -> None:
    for target in ("0.0.0.0:8766", "nonsense", "127.0.0.1:x"):
        with pytest.raises(ConfigError, match="loopback"):
            follow_output("foxglove", target)


async def _looked(port: int) -> dict[str, tuple[int, dict[str, Any]]]:
    """Subscribe to all channels, as Foxglove does: topic -> time of the log, content of its first message."""
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                socket = await session.ws_connect(f"ws://127.0.0.1:{port}", protocols=["foxglove.sdk.v1"])
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)  # it is starting
        topics: dict[int, str] = {}
        got: dict[str, tuple[int, dict[str, Any]]] = {}
        async for message in socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                told = json.loads(message.data)
                for channel in told.get("channels", []) if told["op"] == "advertise" else []:
                    topics[channel["id"]] = channel["topic"]
                    wanted = [{"id": channel["id"], "channelId": channel["id"]}]
                    await socket.send_json({"op": "subscribe", "subscriptions": wanted})
            elif message.data[0] == 1:
                number, log_ns = struct.unpack_from("<IQ", message.data, 1)
                topic = topics[number]
                content = json.loads(message.data[13:]) if topic == "/status" else _image(message.data[13:])
                got.setdefault(topic, (log_ns, content))
            if set(got) == set(_TOPICS):
                break
        await socket.close()
    return got


def _image(data: bytes) -> dict[str, Any]:
    """Decode foxglove.RawImage: timestamp 1, width 2, height 3, encoding 4, step 5, data 6."""
    fields = _protobuf(data)
    stamp = _protobuf(fields[1])
    pixels = np.frombuffer(fields[6], np.uint8).reshape(fields[3], fields[2], -1)
    return {
        "seconds": stamp.get(1, 0), "nanoseconds": stamp.get(2, 0), "encoding": fields[4].decode(), "pixels": pixels,
    }  # fmt: skip


def _protobuf(data: bytes) -> dict[int, Any]:
    """Decode the wire format of protobuf: varint 0, length 2, fixed32 5."""
    fields: dict[int, Any] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 0:
            fields[key >> 3], at = _varint(data, at)
        elif key & 7 == 2:
            length, at = _varint(data, at)
            fields[key >> 3], at = data[at : at + length], at + length
        else:
            assert key & 7 == 5
            fields[key >> 3], at = struct.unpack_from("<I", data, at)[0], at + 4
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _until(subscriber: Subscriber, end_ns: int) -> list[Message]:
    """All messages that were published before a moment."""
    messages: list[Message] = []
    while not messages or messages[-1].header["stamps"]["published_ns"] < end_ns:
        message = subscriber.recv(PATIENCE_MS)
        assert message is not None
        messages.append(message)
    return messages
