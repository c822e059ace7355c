"""Real processes and clumsy or hostile clients: the frames go on, and answers are true."""

from __future__ import annotations

import fcntl
import json
import signal
import threading
from typing import Any

import msgpack
import pytest
import zmq

from nire.errors import NireError
from stream.sockets.control import ControlClient
from tests.stream.sockets.test_control import HOSTILE
from tests.system.commanded import Command
from tests.system.live_stream import LiveStream
from tests.waiting import PATIENCE_MS

pytestmark = pytest.mark.system

CAMERA = "source.settings={width = 64, height = 48, noise = 'ideal'}"


def test_settings_that_the_source_refuses_are_refused_and_the_old_ones_stay() -> None:
    settings = (CAMERA, "reconstructor.backend=passthrough", "plan.rate_hz=200")
    with Command("live", "configs/synthetic.toml", settings=settings) as stream:
        stream.until(lambda: _answered(stream.control, "status").get("exposed"))
        refused = stream.ctl("set-source", "exposure_us=-5")
        assert refused.code == 2, refused.out
        assert "exposure_us" in json.loads(refused.out)["hint"]
        assert _answered(stream.control, "status")["source_change"]["state"] == "failed"
        taken = stream.ctl("set-source", "exposure_us=5000")
        assert taken.code == 0, taken.out
        assert json.loads(taken.out)["state"] == "done"
        status = _answered(stream.control, "status")
        assert status["asked_hz"] == 200
        assert status["delivered_hz"] == status["rates"]["exposed"]
        before = status["exposed"]
        stream.until(lambda: _answered(stream.control, "status")["exposed"] > before + 5)
        stream.until_said("of 200 images a second")  # every few seconds
        stream.process.send_signal(signal.SIGHUP)
        done = stream.wait()
    assert done.code == 0, done.err
    assert f"{stream.publish}: " in done.err
    assert "the plan asks for 200" in done.err  # in the last line
    assert "Traceback" not in done.err
    assert stream.left() == []


def test_hostile_requests_and_subscribers_end_nothing() -> None:
    with LiveStream() as stream:
        stream.until_exposing()
        with zmq.Context() as context:
            for request in HOSTILE.values():
                with context.socket(zmq.REQ) as socket:
                    socket.connect(stream.config.control.bind)
                    socket.send(request)
                    assert socket.poll(PATIENCE_MS)
                    assert msgpack.unpackb(socket.recv())["error"] == "bad_request"
            with context.socket(zmq.SUB) as many:
                many.connect(stream.config.publish.bind)
                for number in range(3000):
                    many.subscribe(f"frame/{number}\0")
                stream.until_exposing(20)
        assert stream.row("consumer")["lives"] == 1
        code, log = stream.end()
    assert code == 0, log


def test_log_that_nobody_reads_and_clients_that_never_stop_hold_up_nothing() -> None:
    with LiveStream() as stream:
        assert stream.supervisor.stderr is not None
        fcntl.fcntl(stream.supervisor.stderr, fcntl.F_SETPIPE_SZ, 4096)
        stream.until_exposing()
        flood = threading.Thread(target=_flood, args=(stream.config.control.bind,))
        flood.start()
        flood.join()
        stream.until_exposing(20)
        assert stream.ask("status")["ok"]
        assert {stream.row(name)["lives"] for name in ("producer", "consumer")} == {1}
        code, log = stream.end()
    assert code == 0, log
    assert "were left out: nobody read them" in log
    assert stream.is_clean()


def _flood(control: str) -> None:
    """Ask for impossible settings again and again; each is said in the log."""
    with ControlClient(control, timeout_ms=PATIENCE_MS) as client:
        for _ in range(60):
            client.ask("set_source", settings={"no_such_setting": "x" * 300})


def _answered(control: str, command: str) -> dict[str, Any]:
    try:
        with ControlClient(control, timeout_ms=1000) as client:
            return client.ask(command)
    except NireError:
        return {}
