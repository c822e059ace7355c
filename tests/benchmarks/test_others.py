"""What `bench others` sets side by side: the same events, and a row that says why where something is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import others
from benchmarks.report import report
from drivers.cameras.synthetic import SyntheticCamera
from nire.types import EventBatch, Frame, Gap
from stream.config import load_config
from stream.evaluation.recording import Recorded


@pytest.fixture
def filmed(small_camera: Callable[..., SyntheticCamera]) -> Recorded:
    with small_camera(seconds=0.4, frame_rate_hz=25, exposure_us=1000) as camera:
        packets = tuple(packet for packet in camera if isinstance(packet, EventBatch | Frame | Gap))
        return Recorded(load_config(None, []), camera.info, packets)


def test_package_that_is_missing_is_a_row_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(others._PACKAGES, "no_such_package_of_anyone", "its-name")
    works: dict[str, others.Work | str] = {
        "ours": lambda: 7,
        "theirs": others.by("no_such_package_of_anyone", lambda package: lambda: 7),
    }
    ours, theirs = others.rates("read_{}_per_s", "events/s", works, "a note")
    assert (ours.metric, theirs.metric) == ("read_ours_per_s", "read_theirs_per_s")
    assert ours.value > 0
    assert math.isnan(theirs.value)
    assert "pip install its-name" in theirs.note
    rows = json.loads(json.dumps(report("others", [ours, theirs]), allow_nan=False))["results"]
    assert [row["value"] is None for row in rows] == [False, True]


def test_work_gets_the_package_that_is_there() -> None:
    work = others.by("json", lambda package: lambda: len(package.dumps([1, 2])))
    assert callable(work)
    assert work() == 6


def test_comparison_looks_at_the_first_seconds_only(filmed: Recorded) -> None:
    whole = others.shortened(filmed, 100.0)
    assert whole.packets == filmed.packets
    begin = others.shortened(filmed, 0.2)
    first_us = filmed.events().t_us[0]
    assert 0 < len(begin.events()) < len(filmed.events())
    assert begin.events().t_us[-1] < first_us + 200_000
    assert [frame.index for frame in begin.frames] == [frame.index for frame in filmed.frames][: len(begin.frames)]
    assert 0 < len(begin.frames) < len(filmed.frames)


def test_recording_whose_frames_cannot_be_left_out_has_a_row_that_says_why(
    filmed: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(others, "open_backends", lambda recorded, names: {})
    (row,) = others._left_out(others.shortened(filmed, 0.06))
    assert math.isnan(row.value)
    assert "at least 3 frames" in row.note


def test_readers_of_others_find_the_events_that_ours_finds(filmed: Recorded, tmp_path: Path) -> None:
    dv = pytest.importorskip("dv_processing")
    path = others.written(tmp_path / "a.aedat4", filmed.info, filmed.packets)
    assert sum(len(batch.numpy()) for batch in others._batches(dv, path)) == len(filmed.events())


def test_windows_of_events_alone_have_no_frames_and_pairs_have_two(filmed: Recorded) -> None:
    spans, pairs = (list(others._windows(filmed, policy, frames=n)) for policy, n in (("span", 0), ("pair", 2)))
    assert len(spans) > 5
    assert len(pairs) > 5
    assert {len(window.frames) for window in spans} == {0}
    assert all(window.t1_us - window.t0_us >= others._SPAN_US for window in spans)
    assert {len(window.frames) for window in pairs} == {2}
