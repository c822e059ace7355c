"""Real processes: each is killed while the stream runs, and the rest goes on."""

from __future__ import annotations

import os
import re
import signal
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
