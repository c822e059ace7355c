"""Real processes: what they write when they are killed, and when the disk is full."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from drivers.detect import open_driver
from drivers.recordings.recording.source import RecordingWriter
from tests.stream.command import ROOT, run
from tests.system.live_stream import small_config
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.system

SETTINGS = ("--set", "reconstructor.backend=passthrough", "--set", "reconstructor.device=cpu")
FULL = "No space left on device"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of a small camera."""
    path = tmp_path_factory.mktemp("recorded") / "short.nire"
    config, _ = small_config("source.settings={width = 64, height = 48, noise = 'ideal', seconds = 4.0, live = false}")
    with (
        open_driver("synthetic", **config.source.settings) as source,
        RecordingWriter(path, source.info.geometry, source=source.info) as writer,
    ):
        for packet in source:
            writer.write(packet)
    return path


def lines(out: Path) -> list[str]:
    path = out / "frames.jsonl"
    return [json.loads(line)["file"] for line in path.read_text().splitlines()] if path.exists() else []


def images_of(video: Path) -> int:
    reader = cv2.VideoCapture(str(video))
    count = 0
    while reader.read()[0]:
        count += 1
    reader.release()
    return count


def test_killed_run_leaves_what_it_had_and_the_next_one_takes_its_place(recording: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "stream.cli", "offline", recording, out, "--video", *SETTINGS]
    command += ["--set", "plan.rate_hz=2000"]
    with subprocess.Popen([str(word) for word in command], cwd=ROOT, stderr=subprocess.PIPE) as process:
        until(lambda: len(lines(out)) > 100 or process.poll() is not None)
        process.kill()
    named = lines(out)
    assert len(named) > 100
    assert all(cv2.imread(str(out / name)) is not None for name in named)
    assert json.loads((out / "run.json").read_text())["state"] == "unfinished"
    assert images_of(out / "video.mp4") >= len(named) - 60  # a second is written at a time
    again = run("offline", recording, out, *SETTINGS, "--set", "plan.name=deblur")
    assert again.code == 0, again.err
    assert "ended before it was whole" in again.err
    assert sorted(path.name for path in out.iterdir()) == ["frames", "frames.jsonl", "run.json"]
    assert sorted(lines(out)) == sorted(f"frames/{path.name}" for path in (out / "frames").iterdir())


@pytest.mark.parametrize("options", [(), ("--output", "gif"), ("--video",)], ids=["images", "gif", "video"])
def test_run_on_a_full_disk_says_so_and_what_it_leaves(
    recording: Path, small_disk: Path, options: tuple[str, ...]
) -> None:
    out = small_disk / "out"
    done = run("offline", recording, out, *options, *SETTINGS)
    assert done.code == 2, done.err
    assert FULL in done.err
    assert "unfinished:" in done.err
    assert "Traceback" not in done.err
    assert all(cv2.imread(str(out / name)) is not None for name in lines(out))


@pytest.mark.parametrize(
    "command",
    [
        ("convert", "{recording}", "{disk}/a.nire"),
        ("convert", "{recording}", "{disk}/a.mcap"),
        ("demo", "--headless", "--seconds", "1", "--out", "{disk}/demo"),
        ("record", "configs/synthetic.toml", "{disk}/a.nire", "--seconds", "3"),
    ],
    ids=["nire", "mcap", "demo", "record"],
)
def test_command_on_a_full_disk_says_so(recording: Path, small_disk: Path, command: tuple[str, ...]) -> None:
    (small_disk / "other").write_bytes(bytes(100_000))
    free = ("publish.bind=tcp://127.0.0.1:*", "control.bind=tcp://127.0.0.1:*") if command[0] == "record" else ()
    words = [word.format(recording=recording, disk=small_disk) for word in command]
    done = run(*words, *(word for setting in free for word in ("--set", setting)), timeout_s=PATIENCE_S)
    assert done.code == 2, done.err
    assert FULL in done.err
    assert "Traceback" not in done.err


def test_recording_into_a_folder_that_is_not_there_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    done = run("record", "configs/synthetic.toml", tmp_path / "none" / "a.nire")
    assert done.code == 2
    assert f"cannot write {tmp_path / 'none' / 'a.nire'}" in done.err
    assert "consumer" not in done.err


def test_output_into_a_full_device_says_so() -> None:
    command = [sys.executable, "-m", "stream.cli", "config", "synthetic"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert FULL in done.stderr
    assert "Traceback" not in done.stderr
