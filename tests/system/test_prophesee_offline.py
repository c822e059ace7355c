"""A RAW recording through the command line: told, described and re-exposed without frames, up to its damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.drivers.prophesee import evt_writer
from tests.stream.command import run

pytestmark = pytest.mark.system

SETTINGS = ("reconstructor.backend=auto", "plan.rate_hz=200", "reconstructor.device=cpu", "reconstructor.threads=1")
EDGES = [(6000, 3, True), (7000, 3, False)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    events = evt_writer.sorted_events(20_000, step_us=15)
    return evt_writer.raw(tmp_path / "a.raw", "EVT3", events, EDGES)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "empty.toml").write_text("")
    return tmp_path / "empty.toml"


def test_info_describes_a_raw_recording(recording: Path) -> None:
    done = run("info", recording)
    assert done.code == 0, done.err
    assert "64 x 48" in done.out
    assert "20,000" in done.out
    assert "channel 3: 1 rising, 1 falling" in done.out


@pytest.mark.parametrize("damaged", [False, True])
def test_offline_re_exposes_a_raw_recording_up_to_its_damage(
    recording: Path, config: Path, tmp_path: Path, damaged: bool
) -> None:
    if damaged:
        recording.write_bytes(recording.read_bytes() + b"\x00")
    out = tmp_path / "out"
    done = run("offline", config, recording, out, *(word for item in SETTINGS for word in ("--set", item)))
    assert done.code == (4 if damaged else 0), done.err
    assert ("cut off" in done.err) == damaged
    lines = [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]
    assert len(lines) >= 3
    assert {line["backend"] for line in lines} == {"events_only"}
    assert all((out / line["file"]).exists() for line in lines)
