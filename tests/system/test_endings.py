"""Real processes: how streams begin and end, and what they refuse."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import psutil
import pytest

from drivers.detect import open_recording
from nire.types import EventBatch, Frame
from stream.sockets.subscriber import Subscriber
from tests.system.live_stream import SHORT, LiveStream, until_ended
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.system


def test_ctrl_c_ends_everything_in_order() -> None:
    with LiveStream() as stream:
        stream.until_exposing()
        family = stream.processes()
        code, log = stream.end()
    assert code == 0, log
    assert "Traceback" not in log
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert alive == []
    assert stream.is_clean()


def test_stop_over_the_control_socket_ends_everything() -> None:
    with LiveStream() as stream:
        stream.until_exposing()
        assert stream.ask("stop")["ok"]
        code, log = stream.wait()
    assert code == 0, log
    assert stream.is_clean()


def test_live_run_ends_after_its_seconds() -> None:
    with LiveStream(seconds=1) as stream:
        code, log = stream.wait()
    assert code == 0, log
    assert stream.is_clean()


def test_source_that_ends_is_published_to_its_last_frame_without_loss(tmp_path: Path) -> None:
    recording = tmp_path / "short.nire"
    with LiveStream(SHORT, **{"record-to": recording}) as stream:
        code, log = stream.wait()
    assert code == 0, log
    assert "Traceback" not in log
    assert stream.is_clean()
    with open_recording(recording) as source:
        packets = list(source)
    assert sum(isinstance(packet, Frame) for packet in packets) == 25
    assert sum(len(packet) for packet in packets if isinstance(packet, EventBatch)) > 0


def test_recording_is_replayed_as_fast_as_possible_without_loss(recording: Path) -> None:
    with LiveStream("source.driver=auto", "source.settings={}", recording=recording, speed="inf") as stream:
        code, log = stream.wait()
    assert code == 0, log
    whole = re.search(r"in: (\d+) events, 25 frames; lost: 0 events, 0 frames; out: (\d+) frames .* 0 late", log)
    assert whole, log
    assert int(whole[1]) > 0
    assert int(whole[2]) >= 190


def test_replay_reaches_a_subscriber_in_another_process(recording: Path) -> None:
    settings = ("source.driver=auto", "source.settings={}", "publish.high_water_mark=100000")
    with (
        LiveStream(*settings, recording=recording, speed="inf", loops=2) as stream,
        Subscriber(stream.config.publish.bind, ["frame/upsample"], high_water_mark=100_000) as subscriber,
    ):
        indices = [message.header["index"] for message in until_ended(subscriber, stream.supervisor)]
        code, log = stream.wait()
    assert code == 0, log
    published = re.search(r"in: \d+ events, 50 frames; lost: 0 events, 0 frames; out: (\d+) frames", log)
    assert published, log
    assert indices == list(range(int(published[1])))
    assert len(indices) >= 380


def test_damaged_recording_is_delivered_up_to_the_damage_and_exits_with_4(recording: Path) -> None:
    cut = recording.with_name("cut.nire")
    cut.write_bytes(recording.read_bytes()[: recording.stat().st_size * 2 // 3])
    with LiveStream("source.driver=auto", "source.settings={}", recording=cut, speed="inf") as stream:
        code, log = stream.wait()
    assert code == 4, log
    assert "damaged at byte" in log
    assert "Traceback" not in log
    assert stream.is_clean()


@pytest.mark.parametrize("key", ["publish", "control"])
def test_port_in_use_is_refused_and_named(key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with LiveStream(f"{key}.bind={address}") as stream:
            code, log = stream.wait()
    assert code == 2
    assert f"{key}.bind = '{address}'" in log
    assert "Traceback" not in log
    assert stream.is_clean()


def test_missing_recording_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    with LiveStream("source.driver=auto", "source.settings={}", recording=tmp_path / "none.aedat4") as stream:
        code, log = stream.wait()
    assert code == 2
    assert "none.aedat4" in log
    assert "Traceback" not in log
    assert stream.is_clean()


def test_consumer_that_is_too_slow_skips_windows_and_says_so() -> None:
    with LiveStream("reconstructor.backend=tests.system.slow_backend") as stream:
        late = stream.until(lambda: stream.row("consumer").get("late_windows", 0))
        assert late > 0
        assert stream.ask("status")["late_windows"] > 0
        stream.supervisor.send_signal(signal.SIGINT)
        code, log = stream.wait()
    assert code == 0, log
