"""The demonstration: the whole pipeline with processes, and what it leaves behind."""

from __future__ import annotations

import json
import math
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.stream.command import ROOT, Done, run
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.system

# Quarter of the size: the scene is the same, the motion slower in proportion, and one core is enough.
SMALL = ("--set", "source.settings.width=172", "--set", "source.settings.height=130")
# Two seconds of the camera, taken as fast as the pipeline goes: every frame comes, on any machine.
WHOLE = (
    *("--set", "source.settings.seconds=2.0"),
    *("--set", "source.settings.live=false"),
    *("--set", "publish.high_water_mark=100000"),
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "new" / "folder"


@pytest.fixture(scope="module")
def demo(out: Path) -> Iterator[Done]:
    """A demonstration of a camera that ends; somebody else has the usual ports, so it takes others."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 5556))
            taken.listen()
        except OSError:
            pass  # then somebody really has it
        yield run("demo", "--headless", "--seconds", "3600", "--out", out, *SMALL, *WHOLE)


def summary(out: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return value


def test_demonstration_ends_well_and_prints_rates_latency_and_losses(demo: Done) -> None:
    assert demo.code == 0, demo.err
    assert "Traceback" not in demo.err + demo.out
    assert "exposed frames a second" in demo.out
    for word in ("latency", "lost", "PSNR", "SSIM"):
        assert word in demo.out


def test_summary_has_the_keys_of_the_contract(demo: Done, out: Path) -> None:
    found = summary(out)
    keys = {"psnr_captured", "psnr_exposed", "exposed_fps", "latency_ms_p50", "latency_ms_p99"}
    assert (keys | {"lost_events", "lost_frames"}) <= set(found)
    assert all(math.isfinite(found[key]) for key in keys)
    assert found["exposed_fps"] > 0
    assert found["exposed_frames"] > 700
    assert (found["lost_events"], found["lost_frames"], found["late_windows"]) == (0, 0, 0)
    assert 0 < found["latency_ms_p50"] <= found["latency_ms_p99"]
    assert isinstance(found["lost_events"], int)


def test_exposed_frames_are_nearer_to_the_truth_than_captured_ones(demo: Done, out: Path) -> None:
    found = summary(out)
    assert found["psnr_exposed"] > found["psnr_captured"] + 3, found


def test_images_and_video_are_there(demo: Done, out: Path) -> None:
    captured, exposed, truth = (cv2.imread(str(out / f"{name}.png"), 0) for name in ("captured", "exposed", "truth"))
    assert captured.shape == exposed.shape == truth.shape == (130, 172)
    # The one instant that is shown is the one at which there is most to see.
    assert np.mean((exposed - truth.astype(float)) ** 2) < np.mean((captured - truth.astype(float)) ** 2)
    assert cv2.imread(str(out / "comparison.png"), 0).shape == (130, 2 * 172 + 4)
    video = cv2.VideoCapture(str(out / "demo.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 200
    video.release()


def test_ctrl_c_ends_the_demonstration_with_its_summary(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stream.cli", "demo", "--headless", "--seconds", "3600", "--out", str(tmp_path)]
    with subprocess.Popen(
        [*command, *SMALL, "--set", "plan.rate_hz=50"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:  # the second report: frames are coming
            if "latency" in line:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert (tmp_path / "summary.json").exists()
