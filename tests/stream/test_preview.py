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
from nire.explicit import engines as key_planes
from nire.network.config import SIZES
from nire.network.weights import shipped
from nire.recurrent import engines as recurrent
from stream.display import Tone
from stream.preview.browser import finite
from stream.preview.choices import choices
from stream.preview.feed import Feed, reachable
from stream.preview.history import History
from stream.preview.images import Look, encoded, envelope, overlay
from stream.preview.moments import Album, Moment, Picture
from stream.preview.numbers import Numbers, Rate
from stream.preview.reel import Shot, write_clip
from stream.preview.server import PAGE, PreviewServer
from stream.preview.shortfall import Shortfall
from stream.sockets.keys import ClientKeys
from stream.sockets.wire import Message
from tests.stream.fake_stream import FakeStream, key_settings
from tests.stream.serving import Served
from tests.waiting import PATIENCE_S, until

T = TypeVar("T")
PLAIN = Look(levelled=False)


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


def split(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The head of what a browser is sent, and its image files by kind."""
    (length,) = struct.unpack_from("<I", data)
    head, at, files = json.loads(data[4 : 4 + length]), 4 + length, {}
    for part in head["parts"]:
        files[part["kind"]] = data[at : at + part["bytes"]]
        at += part["bytes"]
    assert at == len(data)
    return head, files


def decoded(kind: str, pixels: np.ndarray, look: Look = PLAIN, tone: Tone | None = None) -> np.ndarray:
    file = encoded(kind, pixels, look, tone or Tone())
    assert file is not None
    return cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)


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
    image = decoded("exposed", pixels)
    assert image[8, 8, 2] > 180
    assert image[8, 8, 0] < 30


def test_large_frame_is_made_smaller_for_the_browser() -> None:
    assert decoded("exposed", np.zeros((1500, 2560, 1), np.uint8)).shape == (750, 1280)


def test_dark_frame_is_made_visible_where_that_is_wanted() -> None:
    dark = np.tile(np.linspace(0, 50, 64).astype(np.uint8), (48, 1))[..., None]
    tone = Tone()
    tone.learn(dark, 0.0)
    assert decoded("captured", dark, PLAIN, tone).mean() < 30
    assert decoded("captured", dark, Look(), tone).mean() > 90


def test_events_have_the_colours_that_are_wanted() -> None:
    counts = np.zeros((8, 8, 1), np.int8)
    counts[2, 2], counts[5, 5] = 3, -3
    image = decoded("events", counts, Look(colours="white-black"))
    assert image[2, 2, :3].tolist() == [255, 255, 255]
    assert image[5, 5, :3].tolist() == [0, 0, 0]
    assert image[5, 5, 3] > image[0, 0, 3] == 0


def test_images_of_one_moment_travel_together() -> None:
    head, files = split(envelope({"apart_us": 5.0}, [({"kind": "captured"}, b"abc"), ({"kind": "exposed"}, b"de")]))
    assert head["apart_us"] == 5.0
    assert files == {"captured": b"abc", "exposed": b"de"}


def test_message_that_is_no_picture_is_passed_over() -> None:
    assert encoded("exposed", None, PLAIN, Tone()) is None
    assert encoded("exposed", np.zeros((4, 4, 1), np.float32), PLAIN, Tone()) is None


def test_control_address_of_every_interface_is_reached_where_the_stream_is() -> None:
    assert reachable("tcp://0.0.0.0:5557", "tcp://camera.local:5556") == "tcp://camera.local:5557"
    assert reachable("tcp://127.0.0.1:5557", "tcp://camera.local:5556") == "tcp://127.0.0.1:5557"


def test_values_that_json_cannot_say_become_null() -> None:
    assert finite({"a": [float("inf"), 1.5], "b": (float("nan"),)}) == {"a": [None, 1.5], "b": [None]}


# ---- the server


def test_browser_gets_one_moment_until_it_has_shown_it(served: Served, stream: FakeStream) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> tuple[int, int]:
        first = await moment_with(socket, "exposed", acknowledged=False)
        assert cv2.imdecode(np.frombuffer(first["files"]["exposed"], np.uint8), cv2.IMREAD_GRAYSCALE).shape == (
            260,
            346,
        )
        while stream.exposed < first["exposed"]["index"] + 20:
            assert (await socket.receive()).type is aiohttp.WSMsgType.TEXT  # no second moment
        await socket.send_json({"type": "ack"})
        second = await moment_with(socket, "exposed", acknowledged=False)
        return first["exposed"]["index"], second["exposed"]["index"]

    first, second = with_socket(served.url, use)
    # What comes next is about the newest frame, not the one after.
    assert second > first + 10


async def moment_with(
    socket: aiohttp.ClientWebSocketResponse, kind: str, *, acknowledged: bool = True
) -> dict[str, Any]:
    """Wait for a moment with an image of a kind; gives its head, the facts of each image by kind, and `files`."""
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            head, files = split(message.data)
            if acknowledged or kind not in files:
                await socket.send_json({"type": "ack"})
            if kind in files:
                return {**head, **{part["kind"]: part for part in head["parts"]}, "files": files}


def test_stream_encodes_for_the_preview_only_while_a_browser_looks(served: Served, stream: FakeStream) -> None:
    until(lambda: not stream.subscriptions)

    async def use(socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_json({"type": "events", "on": True})
        await moment_with(socket, "events")

    with_socket(served.url, use)
    until(lambda: not stream.subscriptions)


def test_browser_that_wants_no_events_gets_none_though_another_one_does(served: Served) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> set[str]:
        async with aiohttp.ClientSession() as session, session.ws_connect(served.url + "ws") as other:
            await other.send_json({"type": "events", "on": True})
            await moment_with(other, "events")
            seen = [await moment_with(socket, "exposed") for _ in range(4)]
        return {kind for each in seen for kind in each["files"]}

    assert with_socket(served.url, use) <= {"captured", "exposed"}


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


@pytest.mark.parametrize("near", [True, False])
def test_page_is_told_whether_it_is_the_only_one_on_this_machine(
    stream: FakeStream, monkeypatch: pytest.MonkeyPatch, near: bool
) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> bool:
        return bool((await next_text(socket, "state"))["alone"])

    async def use_beside(socket: aiohttp.ClientWebSocketResponse) -> bool:
        await next_text(socket, "state")
        return await asyncio.to_thread(with_socket, served.url, use)

    served = Served(stream.address, "0.0.0.0:0", token="t")
    try:
        monkeypatch.setattr("stream.preview.server.is_loopback", lambda address: near)
        assert with_socket(served.url, use) is near
        assert with_socket(served.url, use_beside) is False
    finally:
        served.close()


def test_page_offers_what_the_networks_are_run_by_and_sizes_that_have_weights() -> None:
    offered = choices()
    for backend, module in (("auto", key_planes), ("neural", key_planes), ("events_only", recurrent)):
        assert offered["engine"][backend] == ["auto", *module.ENGINES]
    assert offered["engine"].keys() <= set(offered["backend"])
    assert offered["size"] == [size for size in SIZES if shipped(size) is not None]
    assert offered["size"]


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
    assert not any(value for key, value in state["numbers"].items() if key != "curves")
    assert not any(state["numbers"]["curves"].values())
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


# ---- what belongs together


def message(topic: str, t_us: float, value: int = 0) -> Message:
    pixels = np.full((6, 8, 1), value, np.int8 if topic == "events" else np.uint8)
    return Message(topic, {"index": 0, "t_a_us": t_us, "t_b_us": t_us, "stamps": {"device_us": t_us}}, pixels)


def test_exposed_frame_is_shown_with_the_captured_frame_and_the_events_of_its_moment() -> None:
    album = Album()
    for t_us in (0, 40_000, 80_000, 120_000):
        album.add(Picture("captured", message("captured", t_us)))
        album.add(Picture("events", message("events", t_us + 5_000)))
    moment = album.moment(Picture("exposed", message("frame/x", 78_000)))
    assert moment.captured is not None
    assert moment.captured.mid_us == 80_000
    assert moment.apart_us == -2_000
    assert moment.events is not None
    assert moment.events.mid_us == 85_000


def test_events_of_another_moment_are_not_shown() -> None:
    album = Album()
    album.add(Picture("events", message("events", 0)))
    assert album.moment(Picture("exposed", message("frame/x", 200_000))).events is None


def test_album_forgets_what_is_old_and_begins_anew_with_the_clock() -> None:
    album = Album()
    for index in range(2000):
        album.add(Picture("captured", message("captured", 10e6 + index * 10_000)))
    oldest = album.moment(Picture("exposed", message("frame/x", 0))).captured
    assert oldest is not None
    assert oldest.mid_us >= 10e6 + 1999 * 10_000 - 2e6
    album.add(Picture("captured", message("captured", 0)))
    newest = album.moment(Picture("exposed", message("frame/x", 30e6))).captured
    assert newest is not None
    assert newest.mid_us == 0


def test_pixel_values_are_those_of_the_wire() -> None:
    moment = Moment(
        exposed=Picture("exposed", message("frame/x", 0, 7)), events=Picture("events", message("events", 0, -3))
    )
    assert moment.values(3, 2) == {"exposed": [7], "events": [-3]}
    assert moment.values(8, 0) == {"exposed": None, "events": None}


@pytest.mark.parametrize(
    "pixels",
    [None, b"", np.zeros((0, 8, 1), np.uint8), np.zeros((4, 0, 3), np.uint8), np.full((4, 4, 1), np.nan, np.float32)],
    ids=["none", "nothing", "no rows", "no columns", "not a number"],
)
def test_image_that_cannot_be_shown_is_passed_over(pixels: Any) -> None:
    header = {"index": 0, "t_a_us": float("nan"), "t_b_us": float("inf"), "stamps": {}}
    picture = Picture("exposed", Message("frame/x", header, pixels))
    assert not picture.file(Look(), Tone())
    assert picture.value(0, 0) is None
    album = Album()
    album.add(Picture("captured", Message("captured", header, pixels)))
    assert album.moment(picture).apart_us == 0


def test_values_under_the_cursor_do_not_depend_on_the_display(served: Served) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_json({"type": "probe", "x": 5, "y": 7})
        seen = await moment_with(socket, "exposed")
        while "captured" not in seen["values"]:
            seen = await moment_with(socket, "exposed")
        await socket.send_json({"type": "hold", "on": True})
        told = []
        for levelled in (True, False):
            await socket.send_json({"type": "look", "levelled": levelled, "colours": "red-blue"})
            await socket.send_json({"type": "probe", "x": 5, "y": 7})
            told.append(await next_text(socket, "values"))
        assert told[0] == told[1]
        assert len(told[0]["exposed"]) == 1

    with_socket(served.url, use)


def test_held_picture_of_one_browser_holds_up_nobody_else(served: Served, stream: FakeStream) -> None:
    async def indices(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[int]:
        return [(await moment_with(socket, "exposed"))["exposed"]["index"] for _ in range(count)]

    async def use(held: aiohttp.ClientWebSocketResponse) -> None:
        await held.send_json({"type": "hold", "on": True})
        async with aiohttp.ClientSession() as session, session.ws_connect(served.url + "ws") as other:
            seen = await indices(other, 5)
        assert len(set(seen)) == 5
        await held.send_json({"type": "hold", "on": False})
        assert (await indices(held, 2))[1] > seen[-1]

    with_socket(served.url, use)
    assert not stream.paused
    assert not any(request["command"] == "pause" for request in stream.asked)


# ---- operator and observer


@pytest.fixture
def observed(stream: FakeStream) -> Iterator[Served]:
    served = Served(stream.address, observers_token="look")
    yield served
    served.close()


def test_observer_is_refused_whatever_would_change_the_stream(observed: Served, stream: FakeStream) -> None:
    asked = [
        ("set_plan", {"plan": {"offset_us": 700}}),
        ("pause", {}),
        ("set_source", {"settings": {}}),
        ("status", {}),
    ]

    async def use(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
        assert (await next_text(socket, "hello"))["operates"] is False
        while "control" not in (await next_text(socket, "state"))["status"]:
            pass
        for number, (command, fields) in enumerate(asked):
            await socket.send_json({"type": "ask", "id": number, "command": command, "fields": fields})
        return sorted([await next_text(socket, "reply") for _ in asked], key=lambda reply: int(reply["id"]))

    *refused, status = with_socket(f"{observed.url}?token=look", use)
    assert [reply["error"] for reply in refused] == ["read_only"] * 3
    assert status["ok"] is True
    assert stream.plan.offset_us == 0
    assert {request["command"] for request in stream.asked} == {"status"}


def test_operator_of_this_machine_needs_no_token_and_a_wrong_one_opens_nothing(observed: Served) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> bool:
        return bool((await next_text(socket, "hello"))["operates"])

    assert with_socket(observed.url, use)
    assert get(f"{observed.url}?token=wrong") == 403
    assert observed.server.observers_address == f"{observed.url}?token=look"


def test_observer_beyond_loopback_only_looks(stream: FakeStream) -> None:
    served = Served(stream.address, bind="0.0.0.0:0", token="open-sesame", observers_token="look")
    plain = f"http://127.0.0.1:{urlsplit(served.url).port}/"

    async def use(socket: aiohttp.ClientWebSocketResponse) -> bool:
        return bool((await next_text(socket, "hello"))["operates"])

    try:
        assert not with_socket(f"{plain}?token=look", use)
        assert with_socket(f"{plain}?token=open-sesame", use)
        assert get(plain + "page/main.js", Cookie="nire-live-token=look") == 200
    finally:
        served.close()


# ---- what may be taken along


async def fetched(session: aiohttp.ClientSession, url: str) -> tuple[int, bytes, str]:
    async with session.get(url) as response:
        return response.status, await response.read(), response.headers.get("Content-Disposition", "")


def test_saved_image_has_the_values_of_the_wire(served: Served) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> None:
        name = (await next_text(socket, "hello"))["name"]
        await socket.send_json({"type": "probe", "x": 100, "y": 60})
        await moment_with(socket, "exposed")
        await socket.send_json({"type": "hold", "on": True})
        async with aiohttp.ClientSession() as session:
            status, file, disposition = await fetched(session, f"{served.url}picture/exposed.png?view={name}")
            assert status == 200
            assert "nire-exposed-" in disposition
            assert (await fetched(session, f"{served.url}picture/exposed.png?view=other"))[0] == 404
        image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
        await socket.send_json({"type": "probe", "x": 100, "y": 60})
        assert (await next_text(socket, "values"))["exposed"] == [int(image[60, 100])]

    with_socket(served.url, use)


def images_of(path: Path) -> list[np.ndarray]:
    film = cv2.VideoCapture(str(path))
    images = []
    while (read := film.read())[0]:
        images.append(read[1])
    film.release()
    return images


def test_clip_is_a_film_of_what_was_shown(served: Served, tmp_path: Path) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> None:
        name = (await next_text(socket, "hello"))["name"]
        for _ in range(12):
            await moment_with(socket, "exposed")
        async with aiohttp.ClientSession() as session:
            status, file, _ = await fetched(session, f"{served.url}clip.mp4?view={name}")
        assert status == 200
        (tmp_path / "clip.mp4").write_bytes(file)

    with_socket(served.url, use)
    images = images_of(tmp_path / "clip.mp4")
    assert {image.shape for image in images} == {(260, 2 * 346 + 4, 3)}
    assert len(images) >= 10


def test_clip_has_the_sides_of_its_newest_moments_from_the_first_on(tmp_path: Path) -> None:
    def file(level: int, width: int = 64) -> bytes:
        return cv2.imencode(".png", np.full((48, width), level, np.uint8))[1].tobytes()

    alone, other, whole = Shot(0.0, None, file(200)), Shot(0.1, file(30, 32), None), Shot(0.2, file(30), file(200))
    assert write_clip([alone, other, whole], tmp_path / "clip.mp4") == 2
    first, last = images_of(tmp_path / "clip.mp4")
    other_sensor = Shot(0.3, cv2.imencode(".png", np.full((96, 64), 30, np.uint8))[1].tobytes(), None)
    assert write_clip([whole, whole, other_sensor], tmp_path / "other.mp4") == 1
    assert [image.shape for image in images_of(tmp_path / "other.mp4")] == [(96, 64, 3)]
    assert first.shape == last.shape == (48, 2 * 64 + 4, 3)
    assert [int(np.median(side)) for side in (first[:, :64], first[:, 68:])] == pytest.approx([96, 200], abs=8)
    assert [int(np.median(side)) for side in (last[:, :64], last[:, 68:])] == pytest.approx([30, 200], abs=8)


def test_clip_of_a_source_without_frames_has_its_events_beside(stream: FakeStream, tmp_path: Path) -> None:
    stream.has_frames = False
    served = Served(stream.address)

    async def use(socket: aiohttp.ClientWebSocketResponse) -> None:
        name = (await next_text(socket, "hello"))["name"]
        await socket.send_json({"type": "events", "on": True})
        for _ in range(4):
            await moment_with(socket, "events")
        async with aiohttp.ClientSession() as session:
            status, file, _ = await fetched(session, f"{served.url}clip.mp4?view={name}")
        assert status == 200
        (tmp_path / "clip.mp4").write_bytes(file)

    try:
        with_socket(served.url, use)
    finally:
        served.close()
    images = images_of(tmp_path / "clip.mp4")
    assert {image.shape for image in images} == {(260, 2 * 346 + 4, 3)}
    # Gray where nothing happened; events are single pixels here, of which a film's colours keep little.
    left = images[-1][:, :346].astype(int)
    assert abs(int(np.median(left)) - 96) < 12
    assert np.abs(left - 96).max() > 15


# ---- why it is less


def status_of(second: int, **counts: float) -> dict[str, Any]:
    rates = {"captured": 25.0, "events": 1e5}
    return {"state": "running", "uptime_s": second, "asked_hz": 400.0, "rates": rates, **counts}


@pytest.mark.parametrize(
    ("counts", "rate_hz", "words"),
    [
        ({"late_windows": 10, "windows": 10, "reduced_queries": 5}, 200.0, "10 of 20 windows were skipped"),
        ({"reduced_queries": 300, "exposed": 100}, 100.0, "time for 25 % of the images"),
        ({"windows": 10, "exposed": 40}, 40.0, "no frames and events around"),
        ({"windows": 10, "exposed": 400}, 398.0, ""),
    ],
)
def test_reason_of_fewer_images_is_said(counts: dict[str, float], rate_hz: float, words: str) -> None:
    shortfall = Shortfall()
    shortfall.add(status_of(1, **dict.fromkeys(counts, 0)))
    shortfall.add(status_of(2, **counts))
    reason = shortfall.reason(rate_hz)
    assert words in reason
    assert bool(words) == bool(reason)


def test_reason_names_what_a_window_costs() -> None:
    shortfall = Shortfall()
    shortfall.add(status_of(1, late_windows=0))
    shortfall.add(status_of(2, late_windows=3) | {"latency_ms": {"build": {"p50": 78.2}}})
    assert "built in 78 ms, frames are 40 ms apart" in shortfall.reason(10.0)


def test_reason_says_paused_and_that_nothing_arrives() -> None:
    shortfall = Shortfall()
    for second in (1, 2):
        shortfall.add(status_of(second) | {"rates": {"captured": 0.0, "events": 0.0}})
    assert shortfall.reason(0.0) == "Nothing arrives from the source"
    shortfall.add(status_of(3) | {"state": "paused"})
    assert shortfall.reason(0.0) == "Paused for everyone"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("synthetic camera, scene default, seed 7", "The synthetic camera comes at 60 % of its speed"),
        ("slow.aedat4", "The source (slow.aedat4) comes at 60 % of its speed"),
    ],
)
def test_source_that_does_not_keep_time_is_named(name: str, words: str) -> None:
    """It was said that it gives no frames and events around the missing moments."""
    shortfall = Shortfall()
    for second in range(4):
        newest_us = 1e6 + 0.6e6 * second if second else 0.0  # nothing has come yet
        status = status_of(second, newest_us=newest_us, reduced_queries=30 * second, exposed=240 * second)
        shortfall.add(status | {"source": {"name": name, "live": True}})
        if second == 1:
            assert words not in shortfall.reason(240.0)
    assert words in shortfall.reason(240.0)
    status = status_of(4, newest_us=3.4e6, reduced_queries=5000, exposed=960)
    shortfall.add(status | {"source": {"name": name, "live": True}})
    assert "This machine has time for 16 % of the images" in shortfall.reason(100.0)


REPLAYED = {"asked_hz": 100.0, "replay": {"speed": 0.25}, "source": {"name": "a.aedat4", "live": True}}


def test_slow_replay_is_no_source_that_does_not_keep_time() -> None:
    shortfall = Shortfall()
    for second in range(4):
        shortfall.add(status_of(second, newest_us=1e6 + 0.25e6 * second) | REPLAYED)
    assert shortfall.reason(99.0) == ""
    assert "no frames and events around" in shortfall.reason(50.0)


def test_delivered_rate_is_the_stream_s_own_where_it_tells_one() -> None:
    numbers = Numbers()
    for index in (0, 400):  # numbers go on where images are left out
        numbers.add_exposed({"tag": "x", "index": index, "stamps": {"published_ns": 10**9 + index * 2_500_000}})
    assert numbers.summary()["rate_hz"] == pytest.approx(400)
    numbers.add_status({"delivered_hz": 120.0})
    assert numbers.summary()["rate_hz"] == 120


def test_curves_are_of_the_last_half_minute_and_count_new_losses() -> None:
    history = History()
    for step in range(200):
        lost = {"lost_events": step, "lost_frames": 0, "late_windows": 0}
        history.tick({"rate_hz": float(step), "latency_ms": None, **lost}, step * 0.25)
    curves = history.curves()
    assert len(curves["rate_hz"]) == 60
    assert curves["rate_hz"][-1] == 198
    assert curves["lost"][-1] == 2
