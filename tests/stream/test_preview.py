"""The preview's server: what goes to a browser, and who may look."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import cv2
import numpy as np
import pytest

from nire.errors import ConfigError
from stream.preview.browser import finite
from stream.preview.feed import Feed, reachable
from stream.preview.images import overlay, picture
from stream.preview.numbers import Numbers, Rate
from stream.preview.server import PAGE, PreviewServer
from stream.sockets.keys import ClientKeys
from stream.sockets.wire import Message
from tests.stream.fake_stream import FakeStream, key_settings
from tests.stream.serving import Served
from tests.waiting import PATIENCE_S, until

T = TypeVar("T")


@pytest.fixture
def stream() -> Iterator[FakeStream]:
    stream = FakeStream()
    yield stream
    stream.close()


@pytest.fixture
def served(stream: FakeStream) -> Iterator[Served]:
    served = Served(stream.address)
    yield served
    served.close()


def with_socket(url: str, use: Callable[[aiohttp.ClientWebSocketResponse], Coroutine[Any, Any, T]]) -> T:
    async def talk() -> T:
        base, _, query = url.partition("?")
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{base}ws?{query}", timeout=aiohttp.ClientWSTimeout(ws_close=5)) as socket,
        ):
            return await asyncio.wait_for(use(socket), PATIENCE_S)

    return asyncio.run(talk())


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from("<I", data)
    return json.loads(data[4 : 4 + length]), data[4 + length :]


# ---- the parts


def test_rate_counts_frames_that_were_not_seen() -> None:
    rate = Rate()
    assert rate.hz is None
    rate.add(10, 1_000_000_000)
    rate.add(410, 2_000_000_000)
    assert rate.hz == pytest.approx(400)


def test_rate_starts_again_with_a_new_stream() -> None:
    rate = Rate()
    rate.add(1000, 5_000_000_000)
    rate.add(0, 6_000_000_000)
    assert rate.hz is None


def test_latency_is_the_median_by_stage() -> None:
    numbers = Numbers()
    for index, total in enumerate([3, 5, 100]):
        stamps = {"received_ns": 1, "built_ns": 1_000_001, "exposed_ns": 2_000_001, "published_ns": total * 10**6 + 1}
        numbers.add_exposed({"tag": "deblur", "index": index, "stamps": stamps, "lost_events": 7})
    summary = numbers.summary()
    assert summary["latency_ms"] == {"build": 1.0, "expose": 1.0, "publish": 3.0, "total": 5.0}
    assert summary["lost_events"] == 7


def test_overlay_is_red_for_brighter_blue_for_darker_and_clear_elsewhere() -> None:
    blue, green, red, alpha = np.moveaxis(overlay(np.array([[2, -2, 0]], np.int8)), -1, 0)[:, 0].astype(int)
    assert red[0] > blue[0]
    assert red[0] > green[0]
    assert blue[1] > red[1]
    assert alpha[0] > 0
    assert alpha[2] == 0


def test_colour_frame_keeps_its_colours() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 0] = 200
    data = picture("exposed", Message("frame/x", {"index": 1}, pixels))
    assert data is not None
    image = cv2.imdecode(np.frombuffer(split(data)[1], np.uint8), cv2.IMREAD_COLOR)
    assert image[8, 8, 2] > 180
    assert image[8, 8, 0] < 30


def test_large_frame_is_made_smaller_for_the_browser() -> None:
    data = picture("exposed", Message("frame/x", {}, np.zeros((1500, 2560, 1), np.uint8)))
    assert data is not None
    image = cv2.imdecode(np.frombuffer(split(data)[1], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image.shape == (750, 1280)


def test_message_that_is_no_picture_is_passed_over() -> None:
    assert picture("exposed", Message("frame/x", {}, None)) is None
    assert picture("exposed", Message("frame/x", {}, np.zeros((4, 4, 1), np.float32))) is None


def test_control_address_of_every_interface_is_reached_where_the_stream_is() -> None:
    assert reachable("tcp://0.0.0.0:5557", "tcp://camera.local:5556") == "tcp://camera.local:5557"
    assert reachable("tcp://127.0.0.1:5557", "tcp://camera.local:5556") == "tcp://127.0.0.1:5557"


def test_values_that_json_cannot_say_become_null() -> None:
    assert finite({"a": [float("inf"), 1.5], "b": (float("nan"),)}) == {"a": [None, 1.5], "b": [None]}


# ---- the server


def test_browser_gets_one_image_of_a_kind_until_it_has_shown_it(served: Served) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> list[int]:
        seen: dict[str, list[int]] = {"captured": [], "exposed": []}
        states = 0
        while states < 3 or not all(seen.values()):
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                head, image = split(message.data)
                assert cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE).shape == (260, 346)
                seen[head["kind"]].append(head["index"])
            elif seen["captured"]:
                states += 1
        assert [len(indices) for indices in seen.values()] == [1, 1]
        await socket.send_json({"type": "ack", "kind": "captured"})
        while len(seen["captured"]) < 2:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                head, _ = split(message.data)
                seen[head["kind"]].append(head["index"])
        return seen["captured"]

    first, second = with_socket(served.url, use)
    # Half a second went by: what comes next is the newest frame, not the one after.
    assert second > first + 3


def test_stream_encodes_for_the_preview_only_while_a_browser_looks(served: Served, stream: FakeStream) -> None:
    until(lambda: not stream.subscriptions)

    async def use(socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_json({"type": "events", "on": True})
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY and split(message.data)[0]["kind"] == "events":
                return

    with_socket(served.url, use)
    until(lambda: not stream.subscriptions)


async def next_text(socket: aiohttp.ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT and (said := json.loads(message.data))["type"] == kind:
            return dict(said)


def test_page_may_ask_for_the_plan_and_not_for_the_end(served: Served, stream: FakeStream) -> None:
    asked = [("set_plan", {"plan": {"offset_us": 700}}), ("set_plan", {"plan": {"rate_hz": -1}}), ("stop", {})]

    async def use(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
        while "control" not in (await next_text(socket, "state"))["status"]:
            pass
        for number, (command, fields) in enumerate(asked):
            await socket.send_json({"type": "ask", "id": number, "command": command, "fields": fields})
        return sorted([await next_text(socket, "reply") for _ in asked], key=lambda reply: int(reply["id"]))

    good, bad, stop = with_socket(served.url, use)
    assert good["ok"] is True
    assert stream.plan.offset_us == 700
    assert (bad["ok"], bad["error"]) == (False, "refused")
    assert (stop["ok"], stop["error"]) == (False, "bad_request")


def test_browser_that_leaves_in_the_middle_of_a_question_leaves_nothing_behind(stream: FakeStream) -> None:
    served = Served(stream.address, control="tcp://127.0.0.1:9")

    async def use(socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_json({"type": "ask", "id": 1, "command": "status", "fields": {}})
        await next_text(socket, "state")

    async def hear(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
        await socket.send_json({"type": "ask", "id": 2, "command": "status", "fields": {}})
        return await next_text(socket, "reply")

    try:
        with_socket(served.url, use)
        assert "nobody answers at tcp://127.0.0.1:9" in with_socket(served.url, hear)["hint"]
    finally:
        served.close()


@pytest.mark.parametrize("garbage", ["{", "[]", '{"type": "explode"}', '{"type": "ask", "id": 1}'])
def test_garbage_from_a_browser_ends_its_connection_only(served: Served, garbage: str) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> int | None:
        await socket.send_str(garbage)
        async for _ in socket:
            pass
        return socket.close_code

    assert with_socket(served.url, use) == 1003

    async def fine(socket: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMsgType:
        return (await socket.receive()).type

    assert with_socket(served.url, fine) in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


def get(url: str, **headers: str) -> int:
    async def fetch() -> int:
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
            return response.status

    return asyncio.run(fetch())


def test_foreign_pages_and_foreign_names_are_refused(served: Served) -> None:
    assert get(served.url) == 200
    assert get(served.url + "page/main.js") == 200
    assert get(served.url, Host="evil.example:80") == 403
    assert get(served.url + "ws", Origin="http://evil.example") == 403
    assert get(served.url + "page/../server.py") == 404


def test_page_beyond_loopback_needs_the_token(stream: FakeStream) -> None:
    served = Served(stream.address, bind="0.0.0.0:0", token="open-sesame")
    try:
        plain = f"http://127.0.0.1:{urlsplit(served.url).port}/"
        assert served.url.endswith("?token=open-sesame")
        assert get(plain) == 403
        assert get(plain + "ws") == 403
        assert get(plain + "?token=wrong") == 403
        assert get(plain + "?token=open-sesame") == 200
        assert get(plain + "page/main.js", Cookie="nire-live-token=open-sesame") == 200
    finally:
        served.close()


def test_token_is_made_where_none_is_given(stream: FakeStream) -> None:
    served = Served(stream.address, bind="0.0.0.0:0")
    served.close()
    assert len(served.url.partition("?token=")[2]) >= 32


def test_port_in_use_is_a_config_error(served: Served, stream: FakeStream) -> None:
    bind = served.url.removeprefix("http://").rstrip("/")
    second = PreviewServer(stream.address, "", bind, fps=30)

    async def start() -> None:
        try:
            await second.start()
        finally:
            await second.close()

    with pytest.raises(ConfigError, match=r"preview\.bind.*in use"):
        asyncio.run(start())


@pytest.mark.parametrize("bind", ["8765", "127.0.0.1:http", "127.0.0.1:70000"])
def test_bind_that_is_no_host_and_port_is_a_config_error(bind: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        PreviewServer("tcp://127.0.0.1:5556", "", bind, fps=30)


def test_stream_with_keys_is_shown_by_the_owner_of_its_key(tmp_path: Path) -> None:
    settings = key_settings(tmp_path)
    stream = FakeStream(**settings)
    served = Served(stream.address, keys=ClientKeys.load(settings["server_key"], tmp_path / "server.key"))

    async def use(socket: aiohttp.ClientWebSocketResponse) -> None:
        while (await socket.receive()).type is not aiohttp.WSMsgType.BINARY:
            pass

    try:
        with_socket(served.url, use)
    finally:
        served.close()
        stream.close()


def test_page_loads_nothing_from_outside() -> None:
    for file in PAGE.iterdir():
        assert "//" not in file.read_text().replace("// ", ""), file.name


def test_figures_of_a_dead_stream_are_not_kept(stream: FakeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Feed(stream.address, "", None)
    subject.follow(("status", "exposed"))

    def shown() -> dict[str, Any]:
        subject.drain()
        return subject.state()

    until(lambda: shown()["status"] and shown()["numbers"]["rate_hz"])
    stream.close()
    monkeypatch.setattr("stream.preview.feed._SILENT_S", 0.0)
    subject.follow(("status",))
    state = subject.state()
    assert not state["live"]
    assert state["status"] == {}
    assert not any(state["numbers"].values())
    asyncio.run(subject.close())


@pytest.mark.parametrize("text", ["[" * 8000, "1" * 8000, '{"type": "ack", "kind": ' + "[" * 8000])
def test_nested_words_of_a_browser_end_its_connection_only(served: Served, text: str) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_str(text)
        async for _ in socket:
            pass

    with_socket(served.url, use)
    with_socket(served.url, lambda socket: socket.close())


@pytest.mark.parametrize(
    "head", ["Host: [abc", "Host: \\xff\\xfe", "Cookie: nire-live-token=\\xed\\xa0", "Origin: http://[a"]
)
def test_request_that_makes_no_sense_is_refused_and_the_page_is_served(served: Served, head: str) -> None:
    at = urlsplit(served.url)
    assert at.hostname is not None
    line = head.encode().decode("unicode_escape").encode("latin-1")
    host = b"" if line.startswith(b"Host") else f"Host: {at.netloc}\r\n".encode()
    with socket.create_connection((at.hostname, at.port or 80), timeout=PATIENCE_S) as client:
        client.sendall(b"GET /nothing HTTP/1.1\r\n" + host + line + b"\r\nConnection: close\r\n\r\n")
        status = int(client.makefile("rb").readline().split()[1])
    assert 400 <= status < 500
    with_socket(served.url, lambda it: it.close())
