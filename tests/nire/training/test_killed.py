"""A training process that is killed, and folders that cannot be trained on, through the real command."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from nire.network import weights
from nire.training import checkpoint as checkpoints
from nire.training.__main__ import main
from nire.training.loop import CHECKPOINT
from tests.nire.training.rooms import write_images
from tests.waiting import PATIENCE_S

SETTINGS = """
[model]
size = "nano"
[model.change]
channels = [8, 8, 8]
head_channels = 4
[data]
crop_px = 32
batch = 1
queries = 1
layers = 1
tiles = 4
sprites = 4
footage_share = 1.0
[optimiser]
iterations = {iterations}
[run]
device = "cpu"
threads = 1
checkpoint_minutes = 1e-9
validation_windows = 1
"""


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A folder with images and the settings of a run that saves after each iteration."""
    (tmp_path / "quick.toml").write_text(SETTINGS.format(iterations=100_000))
    write_images(tmp_path / "images", count=3)
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    return [str(folder / "quick.toml"), "--images", str(folder / "images"), "--out", str(folder / "out"), *more]


@pytest.mark.system
def test_killed_run_goes_on_from_its_last_checkpoint_which_is_whole(ready: Path) -> None:
    out = ready / "out"
    said = (ready / "said.txt").open("w")
    process = subprocess.Popen([sys.executable, "-m", "nire.training", *command(ready)], stdout=said, stderr=said)
    try:
        # Killed while it writes, more often than not: an unfinished file lies beside a whole one.
        until = time.monotonic() + PATIENCE_S
        while not ((out / CHECKPOINT).exists() and any(out.glob(".*.part"))):
            assert process.poll() is None, (ready / "said.txt").read_text()
            assert time.monotonic() < until, f"no checkpoint within {PATIENCE_S:g} s"
    finally:
        process.kill()
        process.wait()
        said.close()
    assert process.returncode == -9
    kept = checkpoints.load(out / CHECKPOINT)
    assert kept.iteration == len(kept.history) >= 1

    # To an end soon after; the number of iterations is part of the settings, so it is changed in both.
    last = kept.iteration + 2
    kept.settings["optimiser"]["iterations"] = last
    checkpoints.save(kept, out / CHECKPOINT)
    (ready / "quick.toml").write_text(SETTINGS.format(iterations=last))
    assert main(command(ready, "--resume")) == 0
    done = checkpoints.load(out / CHECKPOINT)
    assert done.iteration == last
    assert (done.history[: kept.iteration] == kept.history).all()
    assert not list(out.glob(".*"))
    assert weights.metadata(out / "nano.safetensors")["iterations"] == str(last)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "footage: holds no image; expected folders of frames"),
        ([(90, 80)], r"its longest sequence, 'shot', has 1 frame\(s\)"),
        ([(90, 80), (50, 40)] * 9, r"\d\d\.png: is (90 x 80|50 x 40), but \d\d\.png is"),
        ([(30, 80)] * 17, r"\d\d\.png: is 30 x 80, less than data\.crop_px = 32"),
    ],
    ids=["none", "one", "mixed", "small"],
)
def test_footage_that_cannot_serve_is_refused(
    ready: Path, sizes: list[tuple[int, int]], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shot = ready / "footage" / "shot"
    shot.mkdir(parents=True)
    for k, (width, height) in enumerate(sizes):
        cv2.imwrite(str(shot / f"{k:02d}.png"), np.full((height, width), 100, np.uint8))
    assert main(command(ready, "--data", str(ready / "footage"))) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_folder_without_images_is_refused(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (ready / "images").iterdir():
        path.unlink()
    assert main(command(ready)) == 2
    assert "images: holds no image; expected files like" in capsys.readouterr().err


def test_one_image_of_any_size_is_enough(ready: Path) -> None:
    for path, size in zip(sorted((ready / "images").iterdir()), itertools.cycle([(1, 1), (400, 20)]), strict=False):
        cv2.imwrite(str(path), np.full((size[1], size[0]), 100, np.uint8))
    (ready / "quick.toml").write_text(SETTINGS.format(iterations=1))
    assert main(command(ready)) == 0


def test_damaged_image_is_refused_by_name(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ready / "images" / "picture1.png"
    path.write_bytes(path.read_bytes()[:20])
    assert main(command(ready)) == 2
    assert "picture1.png: cannot be read as an image" in capsys.readouterr().err
