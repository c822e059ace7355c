"""Real processes: one stream that runs through all of these tests."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.detect import open_recording
from nire.types import Frame
from stream.sockets.subscriber import Subscriber
from tests.golden.example import write_recording
from tests.system.live_stream import ROOT, LiveStream

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def stream() -> Iterator[LiveStream]:
    with LiveStream() as stream:
        stream.until_exposing()  # before that most wishes are refused, and any of these tests may be the first
        yield stream
    assert stream.supervisor.returncode == 0
    assert stream.is_clean()


def test_two_sources_on_one_name_are_refused(stream: LiveStream) -> None:
    stream.until_exposing()
    with LiveStream(name=stream.config.stream_name) as second:
        code, log = second.wait()
    assert code == 2
    assert "running already" in log
    assert "Traceback" not in log
    stream.until_exposing()


def test_producer_and_supervisor_have_no_torch_and_the_producer_is_small(stream: LiveStream) -> None:
    stream.until_exposing()
    for pid in (stream.row("producer")["pid"], stream.supervisor.pid):
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "numpy" in maps  # the check itself works
        assert "torch" not in maps
    assert stream.until(lambda: stream.row("producer")["private_kb"]) < 150 * 1024


def test_subscriber_that_slept_gets_the_newest_frame_next(stream: LiveStream) -> None:
    with Subscriber(stream.config.publish.bind, ["frame/upsample"], newest_only=True) as subscriber:
        first = stream.until(lambda: subscriber.recv(timeout_ms=200))
        before = stream.row("consumer")["exposed"]
        # Asleep meanwhile. What is on its way when it wakes may be some frames old, never 150.
        stream.until(lambda: stream.row("consumer")["exposed"] > before + 200)
        asleep_from = stream.row("consumer")["exposed"]
        message = stream.until(lambda: subscriber.recv(timeout_ms=200))
    assert message.header["index"] >= first.header["index"] + 50
    assert time.monotonic_ns() > message.header["stamps"]["published_ns"]
    assert stream.row("consumer")["exposed"] >= asleep_from


def test_garbage_is_refused_and_the_stream_goes_on(stream: LiveStream) -> None:
    stream.until_exposing()
    assert not stream.ask("set_plan", plan={"rate_hz": -5})["ok"]
    assert not stream.ask("dance")["ok"]
    assert not stream.ask("status", nonsense=b"\0\xff")["ok"]
    stream.until_exposing()


def test_plan_is_changed_and_paused_while_running(stream: LiveStream) -> None:
    stream.until_exposing()
    assert stream.ask("set_plan", plan={"rate_hz": 100})["plan"]["rate_hz"] == 100
    assert stream.ask("pause")["ok"]
    assert stream.ask("status")["state"] == "paused"
    assert stream.ask("resume")["ok"]
    stream.until_exposing()
    assert stream.ask("set_plan", plan={"rate_hz": 200})["ok"]


def test_instant_that_was_asked_for_is_published_under_the_index_of_the_answer(stream: LiveStream) -> None:
    stream.until_exposing()
    with Subscriber(stream.config.publish.bind, ["frame/robot"]) as subscriber:

        def asked() -> bool:
            covered = stream.ask("status")["covered_us"]
            reply = stream.ask("expose", t_us=sum(covered) / 2, for_us=0, tag="robot")
            message = subscriber.recv(timeout_ms=200)
            return bool(reply["ok"] and message and message.header["index"] <= reply["index"])

        stream.until(asked)
    assert stream.ask("expose", t_us=1e12)["error"] == "not_covered"


def test_source_settings_that_do_not_exist_are_told_and_the_stream_goes_on(stream: LiveStream) -> None:
    stream.until_exposing()
    gaps = stream.row("producer")["gaps"]
    reply = stream.ask("set_source", settings={"no_such_setting": 1})
    stream.until(lambda: stream.ask("status")["source_change"]["state"] != "pending")
    change = stream.ask("status")["source_change"]
    assert change["state"] == "failed"
    assert "no_such_setting" in change["error"]
    # A source that takes its time is answered for before it is known how it goes.
    assert reply.get("state") == "pending" or (reply["error"], reply["hint"]) == ("refused", change["error"])
    stream.until_exposing()
    assert stream.row("producer")["gaps"] == gaps
    assert stream.row("producer")["lives"] == 1


def test_source_settings_that_do_not_work_are_told_and_the_old_ones_used(stream: LiveStream) -> None:
    stream.until_exposing()
    gaps = stream.row("producer")["gaps"]
    stream.ask("set_source", settings={"width": 96})  # which shows only when it is open: the rings have another size
    stream.until(lambda: stream.ask("status")["source_change"]["state"] == "failed")
    assert "old settings" in stream.ask("status")["source_change"]["error"]
    stream.until(lambda: stream.row("producer")["gaps"] > gaps)
    stream.until_exposing()
    assert stream.row("producer")["lives"] == 1


def test_source_settings_are_changed_while_running(stream: LiveStream) -> None:
    stream.until_exposing()
    gaps = stream.row("consumer")["gaps"]
    assert stream.ask("set_source", settings={"exposure_us": 10_000.0})["ok"]
    stream.until(lambda: stream.row("consumer")["gaps"] > gaps)
    stream.until_exposing()


def test_method_is_changed_while_running_and_totals_and_numbers_go_on() -> None:
    with LiveStream() as stream, Subscriber(stream.config.publish.bind, ["frame/"]) as subscriber:
        stream.until_exposing()
        stream.ask("set_plan", plan={"rate_hz": 100})
        before = stream.ask("status")
        reply = stream.ask("set_reconstructor", settings={"backend": "edi"})
        assert reply["ok"]
        stream.until(lambda: stream.ask("status")["method_change"]["state"] == "done")
        stream.until(lambda: stream.ask("status")["backend"] == "edi")
        status = stream.ask("status")
        indices = [message.header["index"] for message in iter(lambda: subscriber.recv(timeout_ms=0), None)]
    assert status["plan"]["rate_hz"] == 100
    assert status["exposed"] >= before["exposed"]
    assert status["windows"] >= before["windows"]
    assert status["reconstructor"]["backend"] == "edi"
    assert status["backend_reason"] == "chosen by hand"
    assert indices == sorted(indices)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"backend": "no_such"}, "no_such"), ({"size": "huge"}, "nano"), ({"no_such_key": 1}, "no_such_key")],
)
def test_method_that_cannot_be_made_is_told_and_the_present_one_stays(
    stream: LiveStream, settings: dict[str, Any], words: str
) -> None:
    stream.until_exposing()
    reply = stream.ask("set_reconstructor", settings=settings)
    if reply["ok"]:
        stream.until(lambda: stream.ask("status")["method_change"]["state"] != "pending")
        reply = {"hint": stream.ask("status")["method_change"]["error"]}
    assert words in reply["hint"]
    stream.until_exposing()
    assert stream.ask("status")["backend"] == "passthrough"
    assert stream.row("consumer")["lives"] == 1


def test_events_are_collected_as_long_as_was_asked_for(stream: LiveStream) -> None:
    with Subscriber(stream.config.publish.bind, ["events"]) as subscriber:
        assert stream.ask("set_events", events_ms=40)["events_ms"] == 40
        assert not stream.ask("set_events", events_ms=0)["ok"]

        def collected() -> bool:
            message = subscriber.recv(timeout_ms=1000)
            return message is not None and message.header["t_b_us"] - message.header["t_a_us"] == 40_000

        stream.until(collected)


def test_replay_is_held_stepped_moved_and_played_at_another_speed(tmp_path: Path) -> None:
    path = tmp_path / "two.nire"
    write_recording(path)
    with LiveStream(recording=path, loops=0) as stream:
        stream.until_exposing()

        def play(**wishes: Any) -> None:
            number = stream.ask("play", play=wishes)["number"]
            stream.until(
                lambda: stream.ask("status")["source_change"] == {"number": number, "state": "done", "error": ""}
            )

        play(held=True)
        stream.until(lambda: stream.ask("status")["replay"]["held"])
        frames = stream.row("producer")["frames_in"]
        play(step=True)
        stream.until(lambda: stream.row("producer")["frames_in"] == frames + 1)
        gaps = stream.row("producer")["gaps"]
        play(at_us=30_000)
        stream.until(lambda: stream.row("producer")["gaps"] > gaps)
        play(speed=0.5, held=False)
        stream.until_exposing()
        assert stream.ask("status")["replay"]["speed"] == 0.5


def test_running_stream_is_recorded_for_a_while(stream: LiveStream) -> None:
    path = ROOT / f"test-{uuid.uuid4().hex[:8]}.nire"
    stream.until_exposing()
    try:
        reply = stream.ask("record", file=path.name)
        assert reply["ok"]
        stream.until(lambda: (stream.ask("status")["recording"] or {}).get("frames", 0) > 5)
        assert Path(stream.ask("status")["recording"]["path"]).name == path.name
        assert "already" in stream.ask("record", file="another.nire")["hint"]
        assert stream.ask("record_stop")["ok"]
        stream.until(lambda: stream.ask("status")["recording"] is None)
        with open_recording(path) as recording:
            assert sum(isinstance(packet, Frame) for packet in recording) > 5
        assert "there already" in stream.ask("record", file=path.name)["hint"]
        stream.until_exposing()
        assert stream.row("consumer")["lives"] == stream.row("producer")["lives"] == 1
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(("file", "words"), [("film.xyz", "no format that is written"), ("../film.nire", "letters")])
def test_recording_that_cannot_be_written_is_refused(stream: LiveStream, file: str, words: str) -> None:
    reply = stream.ask("record", file=file)
    if reply.get("state") == "pending":
        stream.until(lambda: (stream.ask("status")["recording"] or {}).get("error"))
        reply = {"hint": stream.ask("status")["recording"]["error"]}
    assert words in reply["hint"]
    assert "nothing is being recorded" in stream.ask("record_stop")["hint"]


def test_stream_goes_on_where_its_recorder_fails(stream: LiveStream) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}.nire"
    in_the_way = ROOT / f"{name}.part"
    in_the_way.mkdir()
    try:
        stream.ask("record", file=name)
        stream.until(lambda: (stream.ask("status")["recording"] or {}).get("error"))
        stream.until_exposing()
        assert stream.supervisor.poll() is None
    finally:
        in_the_way.rmdir()


def test_camera_is_no_replay(stream: LiveStream) -> None:
    stream.until_exposing()
    assert stream.ask("status")["replay"] is None
    stream.ask("play", play={"speed": 2.0})
    stream.until(lambda: "only a replay" in stream.ask("status")["source_change"]["error"])


def test_windows_are_begun_ahead_where_the_backend_can_and_that_is_counted(stream: LiveStream) -> None:
    assert stream.ask("status")["built_ahead"] == 0
    # So few frames and instants that any machine has nothing to do between them.
    seldom = "source.settings={width = 64, height = 48, noise = 'ideal', frame_rate_hz = 5}"
    edi = ("reconstructor.backend=edi", "reconstructor.contrast_threshold=[0.2, 0.2]")
    with LiveStream(*edi, seldom, "plan.rate_hz=20") as other:
        other.until_exposing()
        other.until(lambda: other.ask("status")["built_ahead"] > 0)
