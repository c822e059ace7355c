"""Control: requests are checked, answered in time, and nothing that is sent can end the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from nire.errors import ConfigError, NireError, ShutterOutsideWindow
from stream.config_sections import ControlConfig
from stream.sockets.control import COMMANDS, ControlClient, ControlServer, Pending, answer
from tests.waiting import PATIENCE_MS, PATIENCE_S


def handler(request: dict[str, Any]) -> Mapping[str, Any]:
    match request:
        case {"command": "expose", "t_us": t_us} if t_us > 1000:
            raise ShutterOutsideWindow("the shutter at 2000 us is outside [0, 1000]", (0.0, 1000.0))
        case {"command": "set_plan", "plan": {"rate_hz": 0}}:
            raise ConfigError("rate_hz must be greater than 0")
        case {"command": "stop"}:
            raise KeyError("a mistake of ours")
        case _:
            return {"request": request}


@pytest.fixture
def address() -> Iterator[str]:
    stop = threading.Event()
    with ControlServer(ControlConfig(bind="tcp://127.0.0.1:*")) as server:

        def serve() -> None:
            while not stop.is_set():
                server.poll(handler, timeout_ms=20)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.address
        stop.set()
        thread.join()


def ask(**request: Any) -> dict[str, Any]:
    return answer([msgpack.packb(request)], handler)


def test_defaults_are_filled_in_before_the_handler_sees_a_request(address: str) -> None:
    with ControlClient(address) as client:
        reply = client.ask("expose", t_us=5)
    wanted = {"command": "expose", "t_us": 5.0, "for_us": 0.0, "row_delay_us": 0.0, "tag": "expose"}
    assert reply == {"ok": True, "request": wanted}


def test_text_that_cannot_be_sent_is_refused_and_the_next_request_is_served(address: str) -> None:
    with ControlClient(address) as client:
        with pytest.raises(ConfigError, match=r"set_plan: 'a\\ud800' holds half a character"):
            client.ask("set_plan", plan={"name": "a\ud800"})
        assert client.ask("status")["ok"]


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\x01"


HOSTILE = {
    "nested": nested(1000),
    "command": b"\x81" + msgpack.packb("command") + nested(1000),
    "field": b"\x82" + msgpack.packb("command") + msgpack.packb("expose") + msgpack.packb("t_us") + nested(1000),
    "key": b"\x81" + nested(1000) + b"\x01",
    "plan": b"\x82" + msgpack.packb("command") + msgpack.packb("set_plan") + msgpack.packb("plan") + nested(900),
    "wide": msgpack.packb({"command": "set_plan", "plan": {str(n): n for n in range(5000)}}),
    "long": msgpack.packb({"command": "x" * 60_000}),
    "keys": msgpack.packb({"command": "status"} | {f"{n:030}": n for n in range(1500)}),
}


@pytest.mark.parametrize("request_", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_request_is_answered_in_few_words_and_the_next_one_is_served(address: str, request_: bytes) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(address)
        socket.send(request_)
        assert socket.poll(PATIENCE_MS)
        reply = msgpack.unpackb(socket.recv())
    assert reply["error"] == "bad_request"
    assert len(reply["hint"]) < 500
    with ControlClient(address) as client:
        assert client.ask("status")["ok"]


def test_whatever_a_handler_raises_or_returns_ends_with_an_answer() -> None:
    def too_deep(request: dict[str, Any]) -> Mapping[str, Any]:
        return too_deep(request)

    assert answer([msgpack.packb({"command": "status"})], too_deep)["error"] == "internal"
    with ControlServer(ControlConfig(bind="tcp://127.0.0.1:*")) as server, ControlClient(server.address) as client:
        replies: list[dict[str, Any]] = []
        asking = threading.Thread(target=lambda: replies.append(client.ask("status")))
        asking.start()
        while not server.poll(lambda request: {"strange": object()}, timeout_ms=20):
            pass
        asking.join()
    assert replies[0]["error"] == "internal"


@pytest.mark.parametrize("is_done", [True, False])
def test_answer_that_takes_long_is_sent_when_it_is_there_or_says_that_it_is_not(is_done: bool) -> None:
    looks: list[int] = []

    def outcome() -> dict[str, Any] | None:
        looks.append(1)
        return {"done": True} if is_done and len(looks) > 2 else None

    replies: list[dict[str, Any]] = []
    with (
        ControlServer(ControlConfig(bind="tcp://127.0.0.1:*")) as server,
        ControlClient(server.address, timeout_ms=PATIENCE_MS) as client,
    ):
        asking = threading.Thread(target=lambda: replies.append(client.ask("status")))
        asking.start()
        while not replies:
            server.poll(lambda request: Pending(outcome, {"done": False}), timeout_ms=20)
        asking.join()
    assert replies == [{"ok": True, "done": is_done}]


def test_client_goes_on_after_an_error(address: str) -> None:
    with ControlClient(address) as client:
        assert client.ask("nonsense")["ok"] is False
        assert client.ask("status")["ok"] is True


def test_poll_does_not_wait_where_nothing_was_asked() -> None:
    with ControlServer(ControlConfig(bind="tcp://127.0.0.1:*")) as server:
        assert server.poll(handler) == 0


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"{}", msgpack.packb([1]), msgpack.packb({1: 2}), b"\xff" * 999])
def test_garbage_on_the_socket_is_answered_and_the_next_request_too(address: str, garbage: bytes) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(address)
        socket.send(garbage)
        assert socket.poll(PATIENCE_MS)
        reply = msgpack.unpackb(socket.recv())
        assert reply["ok"] is False
        assert reply["error"] == "bad_request"
        assert reply["hint"]
    with ControlClient(address) as client:
        assert client.ask("status")["ok"]


def test_request_of_several_parts_is_refused() -> None:
    assert answer([b"a", b"b"], handler)["error"] == "bad_request"


def test_unknown_command_lists_the_known_ones() -> None:
    reply = ask(command="explode")
    assert reply["error"] == "bad_request"
    assert all(command in reply["hint"] for command in COMMANDS)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"command": "expose"}, "needs t_us"),
        ({"command": "expose", "t_us": "now"}, "finite number"),
        ({"command": "expose", "t_us": float("nan")}, "finite number"),
        ({"command": "expose", "t_us": True}, "finite number"),
        ({"command": "expose", "t_us": 0, "for_us": -1}, ">= 0"),
        ({"command": "expose", "t_us": 0, "tag": "a b"}, "tag"),
        ({"command": "expose", "t_us": 0, "at": 1}, "does not know at; it takes t_us"),
        ({"command": "set_plan"}, "needs plan"),
        ({"command": "set_plan", "plan": [1]}, "expected a dict"),
        ({"command": "set_plan", "plan": {b"name": 4}}, "must be text"),
        ({"command": "pause", "x": 1}, "takes no fields"),
    ],
)
def test_impossible_field_is_refused_before_the_handler(request_: dict[str, Any], words: str) -> None:
    reply = ask(**request_)
    assert reply["ok"] is False
    assert words in reply["hint"]


def test_shutter_that_is_not_covered_is_answered_with_what_is() -> None:
    reply = ask(command="expose", t_us=2000)
    assert reply == {
        "ok": False,
        "error": "not_covered",
        "hint": "the shutter at 2000 us is outside [0, 1000]",
        "covered_us": [0.0, 1000.0],
    }


def test_wish_that_cannot_be_carried_out_is_refused_with_the_reason() -> None:
    reply = ask(command="set_plan", plan={"rate_hz": 0})
    assert (reply["ok"], reply["error"]) == (False, "refused")
    assert "greater than 0" in reply["hint"]


def test_mistake_in_the_handler_is_logged_and_does_not_end_the_server(caplog: pytest.LogCaptureFixture) -> None:
    assert ask(command="stop")["error"] == "internal"
    assert "a mistake of ours" in caplog.text


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=9))))
def test_any_map_gets_an_answer(request_: dict[str, Any]) -> None:
    try:
        packed = msgpack.packb(request_)
    except OverflowError:
        return
    assert isinstance(answer([packed], handler)["ok"], bool)


@given(st.binary(max_size=60))
def test_any_bytes_get_an_answer(junk: bytes) -> None:
    assert isinstance(answer([junk], handler)["ok"], bool)


def test_nobody_there_is_said_with_the_address() -> None:
    with (
        ControlClient("tcp://127.0.0.1:9", timeout_ms=50) as client,
        pytest.raises(NireError, match=r"nobody answers at tcp://127\.0\.0\.1:9"),
    ):
        client.ask("status")


def test_late_answer_is_not_taken_for_the_answer_to_the_next_question() -> None:
    with (
        ControlServer(ControlConfig(bind="tcp://127.0.0.1:*")) as server,
        ControlClient(server.address, timeout_ms=200) as client,
    ):
        with pytest.raises(NireError):
            client.ask("pause")
        client._timeout_ms = PATIENCE_MS  # that answer had to be late, this one need not be quick
        replies: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: replies.append(client.ask("resume")))
        thread.start()
        while thread.is_alive():
            server.poll(handler, timeout_ms=5)
        thread.join()
        assert replies[0]["request"] == {"command": "resume"}


def test_control_address_in_use_is_named() -> None:
    with (
        ControlServer(ControlConfig(bind="tcp://127.0.0.1:*")) as server,
        pytest.raises(ConfigError, match=r"control\.bind.*in use"),
    ):
        ControlServer(ControlConfig(bind=server.address))


def test_request_that_is_too_large_does_not_end_the_server(address: str) -> None:
    with ControlClient(address, timeout_ms=300) as client, pytest.raises(NireError):
        client.ask("set_plan", plan={"name": "x" * 100_000})
    with ControlClient(address) as client:
        assert client.ask("status")["ok"]


def test_message_that_is_no_request_does_not_keep_the_server_waiting_for_the_next() -> None:
    with (
        ControlServer(ControlConfig(bind="tcp://127.0.0.1:*")) as server,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as rude,  # a REP socket throws away what has no empty part in front
    ):
        rude.linger = 0
        rude.connect(server.address)
        for _ in range(5):
            rude.send_multipart([b"x"])
            polled = threading.Thread(target=server.poll, args=(handler, 300), daemon=True)
            polled.start()
            polled.join(timeout=PATIENCE_S)
            assert not polled.is_alive()
