"""Real processes: each is killed while the stream runs, and the rest goes on."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from nire.types import Gap
from stream.config_sections import RingConfig
from stream.rings.ring import RingReader
from stream.sockets.subscriber import Subscriber
from tests.system.live_stream import LiveStream, events_of
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.system


def test_killed_producer_is_replaced_and_the_loss_is_a_gap() -> None:
    with LiveStream() as stream:
        stream.until_exposing()
        consumer_pid = stream.row("consumer")["pid"]
        with RingReader(stream.config.stream_name, RingConfig()) as witness:
            witness.read(1.0)
            stream.kill("producer")
            # A witness that is kept from reading has gaps of its own.
            stream.until(lambda: any(isinstance(p, Gap) and "restarted" in p.reason for p in witness.read(0.1)))
        stream.until_exposing()
        assert stream.row("consumer")["pid"] == consumer_pid
        assert stream.row("consumer")["gaps"] >= 1
        assert stream.ask("status")["processes"]["producer"]["lives"] == 2
        code, _ = stream.end()
    assert code == 0
    assert stream.is_clean()


def test_killed_consumer_is_replaced_and_what_it_missed_is_counted() -> None:
    with LiveStream("ring.seconds=0.1") as stream:
        stream.until_exposing()
        producer_pid = stream.row("producer")["pid"]
        stream.kill("consumer")
        stream.until_exposing()
        row = stream.row("consumer")
        assert row["lost_events"] > 0
        assert row["gaps"] >= 1
        assert stream.row("producer")["pid"] == producer_pid
        status = stream.ask("status")
        assert status["ok"]
        # In rings this short a busy machine loses more from one line to the next.
        assert row["lost_events"] <= status["lost_events"] <= stream.row("consumer")["lost_events"]
        code, _ = stream.end()
    assert code == 0
    assert stream.is_clean()


def test_subscriber_sees_one_hole_of_the_size_of_the_time_that_a_killed_consumer_missed() -> None:
    with LiveStream() as stream, Subscriber(stream.config.publish.bind, ["frame/upsample"]) as subscriber:
        headers = list(_headers(stream, subscriber, life=1, at_least=50))
        stream.kill("consumer")
        headers += _headers(stream, subscriber, life=2, at_least=50)
        stream.kill("consumer")
        headers += _headers(stream, subscriber, life=3, at_least=50)
        status = stream.ask("status")
        code, log = stream.end()
    assert code == 0, log
    holes = []
    for before, after in pairwise(headers):
        jump = after["index"] - before["index"]
        assert jump == round((after["t_a_us"] - before["t_a_us"]) * 200e-6)
        for total in ("lost_events", "lost_frames", "late_windows", "unanswered", "window"):
            assert after[total] >= before[total]
        if after["life"] == before["life"]:
            assert jump - 1 == after["unanswered"] - before["unanswered"]
        else:
            holes.append(jump - 1)
            # What the killed one had handed to its socket may not have left.
            assert 0 < after["unanswered"] - before["unanswered"] <= jump - 1
            assert after["lost_events"] > before["lost_events"]
    assert len(holes) == 2
    assert status["life"] == 3
    assert status["exposed"] + status["unanswered"] >= headers[-1]["index"] + 1
    assert status["events"] > 0


def test_captured_frames_and_images_of_events_are_counted_on_over_places_of_a_replay_and_lives(recording: Path) -> None:
    with (
        LiveStream("source.driver=auto", "source.settings={}", recording=recording, loops=0) as stream,
        Subscriber(stream.config.publish.bind, ["captured"]) as captured,
        Subscriber(stream.config.publish.bind, ["events"]) as events,
    ):
        found: dict[str, list[dict[str, Any]]] = {"captured": [], "events": []}

        def go_on(life: int) -> None:
            for subscriber, headers in zip((captured, events), found.values(), strict=True):
                headers += _headers(stream, subscriber, life=life, at_least=30)  # of 25 in a round

        go_on(1)
        gaps = stream.row("producer")["gaps"]
        stream.ask("play", play={"at_us": 0})
        stream.until(lambda: stream.row("producer")["gaps"] > gaps)
        go_on(1)
        stream.kill("producer")
        go_on(1)
        stream.kill("consumer")
        go_on(2)
        code, log = stream.end()
    assert code == 0, log
    for topic, headers in found.items():
        assert all(after["index"] > before["index"] for before, after in pairwise(headers)), topic
        assert any(after["t_a_us"] < before["t_a_us"] for before, after in pairwise(headers)), topic


def test_killed_consumer_of_a_replay_that_loses_nothing_is_replaced_and_the_replay_ends(recording: Path) -> None:
    settings = ("source.driver=auto", "source.settings={}", "ring.seconds=0.2")
    with LiveStream(*settings, recording=recording, speed="inf", loops=40) as stream:
        stream.until_exposing()
        stream.kill("consumer")
        code, log = stream.wait()
    assert code == 0, log
    whole = re.search(r"in: (\d+) events, (\d+) frames; lost: (\d+) events, (\d+) frames", log)
    assert whole, log
    assert int(whole[2]) + int(whole[4]) == 40 * 25
    assert int(whole[1]) + int(whole[3]) == 40 * events_of(recording)
    assert stream.is_clean()


def test_plan_and_pause_that_were_asked_for_outlive_the_consumer() -> None:
    with LiveStream() as stream:
        stream.until_exposing()
        assert stream.ask("set_plan", plan={"rate_hz": 125})["ok"]
        assert stream.ask("pause")["ok"]
        stream.kill("consumer")
        stream.until(lambda: stream.row("consumer")["state"] == "running")
        status = stream.ask("status")
        assert (status["plan"]["rate_hz"], status["state"], status["life"]) == (125, "paused", 2)
        assert stream.ask("resume")["ok"]
        stream.until_exposing()
        code, log = stream.end()
    assert code == 0, log


def test_spare_takes_over_from_a_killed_consumer_and_dies_with_the_stream() -> None:
    with LiveStream("reconstructor.spares=1") as stream:
        stream.until_exposing()
        spare = stream.until(lambda: _titled(stream, "nire-live spare"))
        stream.kill("consumer")
        stream.until_exposing()
        assert stream.row("consumer")["pid"] == spare.pid
        another = stream.until(lambda: _titled(stream, "nire-live spare"))
        another.kill()  # nobody misses it
        stream.until_exposing()
        assert stream.row("consumer")["lives"] == 2
        code, log = stream.end()
    assert code == 0, log
    assert not psutil.pid_exists(spare.pid)
    assert stream.is_clean()


def test_stream_without_a_spare_has_none() -> None:
    with LiveStream(seconds=6) as stream:
        while stream.supervisor.poll() is None:
            assert not _titled(stream, "nire-live spare")
        code, log = stream.wait()
    assert code == 0, log


def _titled(stream: LiveStream, title: str) -> psutil.Process | None:
    """Find the process of a stream whose title begins so."""
    for process in stream.processes():
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(title):
                return process
    return None


def _headers(stream: LiveStream, subscriber: Subscriber, *, life: int, at_least: int) -> Iterator[dict[str, Any]]:
    """Give headers until so many of a life have come."""
    while at_least:
        message = stream.until(lambda: subscriber.recv(timeout_ms=200))
        at_least -= message.header["life"] == life
        yield message.header


def test_killed_preview_is_replaced_while_frames_go_on() -> None:
    with LiveStream(preview=True) as stream:
        stream.until_exposing()
        stream.until(lambda: stream.row("preview")["state"] == "running")
        pids = stream.row("consumer")["pid"], stream.row("producer")["pid"]
        stream.kill("preview")
        stream.until(lambda: _answers(f"http://{stream.config.preview.bind}/"))
        stream.until_exposing()
        assert (stream.row("consumer")["pid"], stream.row("producer")["pid"]) == pids
        code, _ = stream.end()
    assert code == 0
    assert stream.is_clean()


def test_recorder_and_preview_that_keep_dying_leave_frames_flowing(tmp_path: Path) -> None:
    with LiveStream(preview=True, **{"record-to": tmp_path / "a.nire"}) as stream:
        stream.until_exposing()
        for name in ("recorder", "preview"):
            stream.until(lambda name=name: stream.row(name)["state"] == "running")
            while stream.row(name)["state"] != "ended":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(stream.row(name)["pid"], signal.SIGKILL)
                stream.until(lambda: stream.row("consumer")["exposed"])
        stream.until_exposing(50)
        lives = stream.row("consumer")["lives"], stream.row("producer")["lives"]
        code, log = stream.end()
    assert lives == (1, 1)
    assert code == 1, log
    for name in ("recorder", "preview"):
        assert f"error: the stream went on without its {name}, which was ended by SIGKILL" in log
    assert stream.is_clean()


def test_full_disk_ends_the_recorder_and_leaves_frames_flowing(small_disk: Path) -> None:
    path = small_disk / "a.nire"
    with LiveStream(**{"record-to": path}) as stream:
        stream.until(lambda: stream.row("recorder")["state"] == "ended")
        stream.until_exposing(50)
        assert stream.row("consumer")["lives"] == 1
        code, log = stream.end()
    assert code == 2, log
    last = log[log.rindex("error: the stream went on without its recorder") :]
    assert str(path) in last
    assert "No space left on device" in last
    assert "Traceback" not in log
    assert events_of(path.with_name("a.nire.part"), to_the_end=False) > 0
    assert stream.is_clean()


def test_port_of_the_preview_that_is_taken_leaves_frames_flowing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with LiveStream(f"preview.bind={address}", preview=True) as stream:
            stream.until(lambda: stream.row("preview")["state"] == "ended")
            stream.until_exposing(50)
            code, log = stream.end()
    assert code == 2, log
    assert f"preview.bind = '{address}'" in log[log.rindex("error: the stream went on without its preview") :]
    assert "Traceback" not in log
    assert stream.is_clean()


def test_small_camera_maps_little() -> None:
    with LiveStream() as stream:
        stream.until_exposing()
        for name in ("producer", "consumer"):
            rings = [
                each.size
                for each in psutil.Process(stream.row(name)["pid"]).memory_maps(grouped=False)
                if each.path.startswith("/dev/shm/")
            ]
            assert len(rings) > 0
        mapped = sum(path.stat().st_size for path in stream.space.leftovers() if path.is_relative_to("/dev/shm"))
        assert 1e6 < mapped < 1e9
        code, _ = stream.end()
    assert code == 0


def test_nobody_outlives_a_killed_supervisor() -> None:
    with LiveStream(preview=True) as stream:
        stream.until_exposing()
        stream.until(lambda: stream.row("preview")["state"] == "running")
        family = stream.processes()
        assert len(family) >= 3
        stream.supervisor.kill()
        _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert alive == []
    assert stream.is_clean()


def test_stream_starts_again_after_all_its_processes_were_killed() -> None:
    with LiveStream() as stream:
        stream.until_exposing()
        os.killpg(stream.supervisor.pid, signal.SIGKILL)
        stream.supervisor.wait()
        psutil.wait_procs(stream.processes(), timeout=PATIENCE_S)
        assert not stream.is_clean()
    with LiveStream(name=stream.config.stream_name) as again:
        again.until_exposing()
        code, _ = again.end()
    assert code == 0
    assert again.is_clean()


def test_device_that_went_away_is_opened_again_and_the_loss_is_a_gap(tmp_path: Path) -> None:
    marker = tmp_path / "unplugged"
    with LiveStream("source.driver=tests.system.flaky_driver", f"source.settings={{marker = '{marker}'}}") as stream:
        stream.until(lambda: stream.row("producer").get("reopened"))
        stream.until_exposing()
        assert stream.row("producer")["lives"] == 1
        assert stream.row("producer")["gaps"] == 1
        stream.until(lambda: stream.row("consumer")["gaps"] >= 1)
        code, log = stream.end()
    assert code == 0, log
    assert "the cable was pulled" in log
    assert stream.is_clean()


def test_consumer_that_lost_its_gpu_says_so_and_is_replaced(tmp_path: Path) -> None:
    marker = tmp_path / "lost"
    settings = ("reconstructor.backend=tests.system.lost_gpu", f"reconstructor.weights={marker}")
    with LiveStream(*settings) as stream:
        stream.until(marker.exists)
        stream.until_exposing()
        stream.until(lambda: stream.ask("status")["processes"]["consumer"]["lives"] == 2)
        assert stream.row("producer")["lives"] == 1
        code, log = stream.end()
    assert code == 0, log
    assert "this process has lost it" in log
    assert "Traceback" not in log
    assert stream.is_clean()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
