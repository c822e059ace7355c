"""Real DAVIS346 recordings through the whole of offline and replay."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivers.detect import open_recording
from nire.metrics import psnr
from nire.types import Frame
from stream.commands import offline
from stream.config import load_config
from tests.stream.command import CONFIG, call
from tests.system.commanded import EVERYTHING, Command

pytestmark = pytest.mark.real

CRADLE = "emlb_demo-01_davis346.aedat4"
CUPS = "eslnet_cups_davis346_converted_first15.aedat4"
CUPS_NPZ = "eslnet_cups_davis346.npz"
NO_FRAMES = "tonic_dvxplorer_320x240_no_frames.aedat4"


@pytest.fixture
def recordings(shared_data: Path) -> Path:
    return shared_data / "recordings"


@cache
def captured(path: Path) -> Sequence[Frame]:
    with open_recording(path) as source:
        return [packet for packet in source if isinstance(packet, Frame)]


def run(recording: Path, out: Path, *settings: str, **options: Any) -> int:
    return offline.run(load_config(CONFIG, settings), recording, out, **options)


def images(out: Path) -> list[np.ndarray]:
    lines = [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]
    return [cv2.imread(str(out / line["file"]), cv2.IMREAD_UNCHANGED) for line in lines]


def shutters_file(path: Path, shutters: Sequence[tuple[float, float]]) -> Path:
    path.write_text("".join(json.dumps({"t_a_us": a, "t_b_us": b}) + "\n" for a, b in shutters))
    return path


def sharpness(image: np.ndarray) -> float:
    """Mean square of the slope after a blur that takes single pixels' noise away."""
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.5)
    slope_y, slope_x = np.gradient(smooth)
    return float((slope_x**2 + slope_y**2).mean())


@pytest.mark.parametrize("name", [CRADLE, CUPS, CUPS_NPZ])
def test_own_shutter_gives_the_captured_frame(recordings: Path, tmp_path: Path, name: str) -> None:
    frames = captured(recordings / name)[:12:3]
    own = shutters_file(tmp_path / "own.jsonl", [(f.exposure_start_us, f.exposure_end_us) for f in frames])
    assert run(recordings / name, tmp_path / "out", shutters=own) == 0
    for frame, image in zip(frames, images(tmp_path / "out"), strict=True):
        assert psnr(image[..., None], frame.pixels) >= 50


@pytest.mark.parametrize("name", [CUPS, CUPS_NPZ])
def test_instants_of_a_blurred_frame_are_sharper_at_start_middle_and_end(
    recordings: Path, tmp_path: Path, name: str
) -> None:
    frame = captured(recordings / name)[7]
    start_us, end_us = frame.exposure_start_us, frame.exposure_end_us
    asked = shutters_file(tmp_path / "s.jsonl", [(t, t) for t in (start_us, (start_us + end_us) / 2, end_us)])
    assert run(recordings / name, tmp_path / "out", shutters=asked) == 0
    found = images(tmp_path / "out")
    for image in found:
        assert sharpness(image) > 1.5 * sharpness(frame.pixels[..., 0])
        # No ghost of a wrong threshold or polarity: the light stays what it was.
        assert abs(float(image.mean()) - float(frame.pixels.mean())) < 2
        assert (image == 255).mean() < 0.005
    # The camera moves: each instant is nearest to itself.
    assert psnr(found[0][..., None], found[2][..., None]) < 30


def test_halves_of_an_exposure_average_to_the_frame(recordings: Path, tmp_path: Path) -> None:
    frame = captured(recordings / CRADLE)[3]
    start_us, end_us = frame.exposure_start_us, frame.exposure_end_us
    mid_us = (start_us + end_us) / 2
    asked = shutters_file(tmp_path / "s.jsonl", [(start_us, mid_us), (mid_us, end_us)])
    assert run(recordings / CRADLE, tmp_path / "out", shutters=asked) == 0
    first, second = (image.astype(float) for image in images(tmp_path / "out"))
    difference = np.abs((first + second) / 2 - frame.pixels[..., 0])
    assert np.percentile(difference, 99.9) <= 1


@pytest.mark.parametrize(("name", "count"), [(CRADLE, 13), (CUPS, 15)])
def test_deblur_gives_one_image_for_each_captured_frame(
    recordings: Path, tmp_path: Path, name: str, count: int
) -> None:
    assert run(recordings / name, tmp_path / "out", "plan.name=deblur") == 0
    assert len(images(tmp_path / "out")) == count
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["counts"]["frames"] == count
    assert 0.1 < report["calibration"]["threshold_positive"] < 0.6
    assert 0.1 < report["calibration"]["threshold_negative"] < 0.6
    assert report["damage"] is None


def test_recording_without_frames_is_refused_by_the_command(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = call(capsys, "offline", CONFIG, recordings / NO_FRAMES, tmp_path / "out")
    assert done.code == 2
    for words in ("no frames", "needs frames", "Use a recording with frames"):
        assert words in done.err
    assert not (tmp_path / "out").exists()


def test_recording_without_frames_is_guessed_from_its_events(recordings: Path, tmp_path: Path) -> None:
    settings = (
        "reconstructor.backend=auto",
        "plan.rate_hz=20",
        "reconstructor.threads=1",
        "reconstructor.engine=eager",
    )
    assert offline.run(load_config(None, settings), recordings / NO_FRAMES, tmp_path / "out") == 0
    found = images(tmp_path / "out")
    assert {image.shape for image in found} == {(240, 320)}
    assert 11 <= len(found) <= 13  # 0.59 s
    for image in found:
        # About gray where nothing moved, and something where it did.
        assert 100 < np.median(image) < 158
        assert image.std() > 0.5
    # What was seen is remembered.
    assert np.mean([image.std() for image in found[-4:]]) > 1.5 * found[0].std()
    counts = json.loads((tmp_path / "out" / "run.json").read_text())["counts"]
    assert (counts["events"], counts["frames"]) == (111_954, 0)


@pytest.mark.parametrize("suffix", [".npz", ".raw"])
def test_truncated_recording_gives_every_frame_before_the_damage(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    cut = tmp_path / f"cut{suffix}"  # and the suffix lies
    cut.write_bytes((recordings / CRADLE).read_bytes()[:1_500_000])
    with pytest.raises(Exception, match="at byte") as damage:
        captured(cut)
    assert damage.value.exit_code == 4
    done = call(capsys, "offline", CONFIG, cut, tmp_path / "out", "--set", "plan.name=deblur")
    assert done.code == 4
    assert "at byte" in done.err
    assert len(images(tmp_path / "out")) == 4
    done = call(capsys, "info", cut)
    assert done.code == 4
    assert "142" in done.out or "141,951" in done.out


@pytest.mark.system
@pytest.mark.parametrize("speed", ["max", "1"])
def test_replay_reaches_a_subscriber_with_the_images_of_offline(recordings: Path, tmp_path: Path, speed: str) -> None:
    settings = (*EVERYTHING[1:], "plan.rate_hz=100", "ring.seconds=5")
    assert run(recordings / CRADLE, tmp_path / "out", *settings) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "frames.jsonl").read_text().splitlines()]
    expected = {line["t_a_us"]: tmp_path / "out" / line["file"] for line in lines}
    with Command("replay", CONFIG, recordings / CRADLE, "--speed", speed, settings=settings) as stream:
        messages = list(stream.received("frame/upsample"))
        done = stream.wait()
    assert done.code == 0, done.err
    for message in messages:
        if message.header["late_windows"] == 0:
            image = cv2.imread(str(expected[message.header["t_a_us"]]), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(message.pixels[..., 0], image)
    counted = re.search(r"lost: 0 events, 0 frames; out: (\d+) frames from (\d+) windows, (\d+) late", done.err)
    assert counted, done.err
    published, windows, late = map(int, counted.groups())
    assert len(messages) == published > 0
    assert windows + late == json.loads((tmp_path / "out" / "run.json").read_text())["counts"]["windows"]
    if speed == "max":
        assert len(messages) == len(expected)
