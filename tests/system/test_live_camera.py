"""A live camera's driver in a whole stream of real processes: settings that change, a cable that is pulled."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.sockets.subscriber import Subscriber
from tests.system.live_stream import LiveStream

pytest.importorskip("dv_processing", reason="dv-processing is not installed")
pytestmark = pytest.mark.system


def _stream(tmp_path: Path, more: str = "") -> LiveStream:
    settings = f"{{marker = '{tmp_path / 'gone'}', exposure_us = 8000{more}}}"
    return LiveStream("source.driver=tests.system.stubbed_davis", f"source.settings={settings}", "plan.name=deblur")


def test_exposure_is_changed_without_a_gap_and_a_wrong_one_leaves_it_as_it_is(tmp_path: Path) -> None:
    with _stream(tmp_path) as stream:
        stream.until_exposing()
        with Subscriber(stream.config.publish.bind, ["captured"]) as subscriber:

            def exposed_for(wanted_us: float) -> bool:
                message = subscriber.recv(timeout_ms=200)
                return message is not None and message.header["t_b_us"] - message.header["t_a_us"] == wanted_us

            stream.until(lambda: exposed_for(8000))
            gaps = stream.row("producer")["gaps"]
            assert stream.ask("set_source", settings={"exposure_us": 2000})["ok"]
            stream.until(lambda: exposed_for(2000))
            refused = stream.ask("set_source", settings={"exposure_us": 0})
            assert not refused["ok"]
            assert "exposure_us = 0 us, expected 1 to" in refused["hint"]
            assert stream.ask("set_source", settings={"exposure_us": 3000})["ok"]
            stream.until(lambda: exposed_for(3000))
        assert stream.row("producer")["gaps"] == gaps == 0
        assert stream.row("producer")["reopened"] == 0
        code, log = stream.end()
    assert code == 0, log
    assert "exposure_us = 0 us, expected 1 to" in log


def test_unplugged_camera_is_opened_again_when_it_is_back(tmp_path: Path) -> None:
    with _stream(tmp_path, ", seconds_plugged = 1.0") as stream:
        stream.until(lambda: stream.row("producer").get("reopened"))
        stream.until(lambda: stream.row("consumer")["gaps"])
        exposed = stream.row("consumer")["exposed"]
        stream.until(lambda: stream.row("consumer")["exposed"] > exposed + 5)
        assert stream.row("producer")["lives"] == 1
        code, log = stream.end()
    assert code == 0, log
    assert "was unplugged" in log
    assert "no DAVIS camera was found" in log
    assert "trying again" in log
