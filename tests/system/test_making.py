"""While a method is being made, which may take a minute, the stream answers and can be stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.live_stream import LiveStream

pytestmark = pytest.mark.system


def late(until: Path) -> LiveStream:
    return LiveStream(
        "reconstructor.backend=tests.system.late_backend", f"reconstructor.settings={{until = {str(until)!r}}}"
    )


def test_status_tells_that_a_method_is_being_made_and_wishes_are_refused(tmp_path: Path) -> None:
    with late(tmp_path / "now") as stream:
        stream.until(lambda: "method is being made" in stream.ask("status").get("waits_for", ""))
        status = stream.ask("status")
        assert status["state"] == "starting"
        assert status["control"] == stream.config.control.bind
        refused = stream.ask("set_plan", plan={"rate_hz": 100})
        assert (refused["ok"], refused["error"]) == (False, "refused")
        assert "the stream is not there: its method is being made" in refused["hint"]
        (tmp_path / "now").touch()
        stream.until_exposing()
        status = stream.ask("status")
        assert status["state"] == "running"
        assert "waits_for" not in status
        code, log = stream.end()
    assert code == 0
    assert "Traceback" not in log
    assert stream.is_clean()


def test_stream_whose_method_is_being_made_is_stopped_by_a_client(tmp_path: Path) -> None:
    with late(tmp_path / "never") as stream:
        stream.until(lambda: "method is being made" in stream.ask("status").get("waits_for", ""))
        assert stream.ask("stop")["stopping"]
        code, log = stream.wait()
    assert code == 0
    assert "Traceback" not in log
    assert stream.is_clean()
