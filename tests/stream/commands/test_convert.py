"""One recording becomes another: the same packets, what is lost is said, and damage is not hidden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.cameras.synthetic import open_source
from drivers.detect import open_recording
from drivers.recordings.recording.source import MAGIC, RecordingWriter
from nire.types import EventBatch, Frame, Gap, Geometry
from tests.drivers.packets.made import column_digests
from tests.drivers.recordings import videos
from tests.stream.command import call, run

COLUMNS = ("t_us", "x", "y", "p", "pixels", "frames")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A fifth of a second of a small camera, and a gap in the end."""
    path = tmp_path / "camera.nire"
    with (
        open_source(width=64, height=48, seconds=0.2, live=False) as source,
        RecordingWriter(path, source.info.geometry, source=source.info) as writer,
    ):
        for packet in source:
            writer.write(packet)
        writer.write(Gap(1_200_001, 1_210_000, "unplugged"))
    return path


def _digests(path: Path) -> dict[str, str]:
    with open_recording(path) as source:
        return column_digests(source)


def test_recording_survives_a_journey_through_another_format(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = call(capsys, "convert", recording, tmp_path / "a.aedat4")
    assert there.code == 0, there.err
    assert "5 frames" in there.out
    assert "the format has no place for: gaps (1)" in there.out
    back = call(capsys, "convert", tmp_path / "a.aedat4", tmp_path / "b.nire")
    assert back.code == 0, back.err
    assert "no place" not in back.out
    before, between, after = (_digests(path) for path in (recording, tmp_path / "a.aedat4", tmp_path / "b.nire"))
    for name in COLUMNS:
        assert before[name] == between[name] == after[name], name


def test_recording_in_our_own_format_keeps_everything(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "convert", recording, tmp_path / "copy.nire").code == 0
    assert _digests(tmp_path / "copy.nire") == _digests(recording)


def test_video_becomes_a_recording_with_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = videos.write(tmp_path / "clip.avi", videos.sliding())
    done = call(capsys, "convert", clip, tmp_path / "clip.nire", "--set", "source.settings.exposure_us=10000")
    assert done.code == 0, done.err
    with open_recording(tmp_path / "clip.nire") as source:
        packets = list(source)
    assert {p.exposure_end_us - p.exposure_start_us for p in packets if isinstance(p, Frame)} == {10_000}
    assert sum(len(p) for p in packets if isinstance(p, EventBatch)) > 1000


def test_damaged_recording_is_converted_up_to_the_damage(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = recording.read_bytes()
    recording.write_bytes(whole[: len(whole) * 2 // 3])
    done = call(capsys, "convert", recording, tmp_path / "a.aedat4")
    assert done.code == 4
    assert "all before was delivered" in done.err
    with open_recording(tmp_path / "a.aedat4") as source:
        assert any(isinstance(packet, Frame) for packet in source)


def test_target_that_makes_no_sense_is_refused_before_anything_is_written(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = recording.read_bytes()
    for out, message in (
        (tmp_path / "a.mp4", "names no format that is written"),
        (recording, "is the recording itself"),
        (tmp_path / "none" / "a.nire", "cannot write the recording"),
    ):
        done = call(capsys, "convert", recording, out)
        assert done.code == 2
        assert message in done.err
    assert recording.read_bytes() == before
    assert before.startswith(MAGIC)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["camera.nire"]


def test_recording_that_a_crash_left_is_not_written_over(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = recording.rename(tmp_path / "a.nire.part")
    before = left.read_bytes()
    done = call(capsys, "convert", left, tmp_path / "a.nire")
    assert done.code == 2
    assert f"{left} is the recording itself" in done.err
    assert left.read_bytes() == before
    assert call(capsys, "convert", left, tmp_path / "b.nire").code == 0
    assert _digests(tmp_path / "b.nire") == _digests(left)


@pytest.mark.parametrize("suffix", [".aedat4", ".h5", ".mcap", ".nire"])
def test_times_far_from_now_are_kept_or_refused_and_nothing_half_written_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    pytest.importorskip("h5py")
    source, out = tmp_path / "far.nire", tmp_path / f"a{suffix}"
    t_us = (1 << 58) + 10 * np.arange(1000)
    with RecordingWriter(source, Geometry(64, 48)) as writer:
        writer.write(EventBatch(t_us, *(np.zeros(1000, kind) for kind in (np.uint16, np.uint16, np.uint8)), t_us[-1]))
    done = call(capsys, "convert", source, out)
    if suffix == ".mcap":
        assert done.code == 2
        assert "us is beyond the end of the clock of ROS" in done.err
        assert list(tmp_path.iterdir()) == [source]
        return
    assert done.code == 0, done.err
    with open_recording(out) as read:
        times = np.concatenate([packet.t_us for packet in read if isinstance(packet, EventBatch)])
    np.testing.assert_array_equal(times, t_us)


def test_record_refuses_a_suffix_that_is_not_written_at_once(tmp_path: Path) -> None:
    done = run("record", Path("configs") / "synthetic.toml", tmp_path / "a.mkv", "--seconds", "1")
    assert done.code == 2
    assert "names no format that is written" in done.err
