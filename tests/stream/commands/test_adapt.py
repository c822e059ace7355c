"""Adapting to a camera: what is written, what it is good for, and when nothing is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from drivers.cameras.synthetic import SyntheticCamera
from drivers.recordings.recording.source import RecordingWriter
from drivers.source import SourceInfo
from nire.backends import neural
from nire.explicit.config import ExplicitConfig
from nire.explicit.network import KeyPlaneNetwork
from nire.network import weights
from nire.training import adaptation
from nire.training.adaptation import Lesson
from nire.types import EventBatch, Frame, Gap, Geometry
from stream.commands import adapt
from stream.evaluation.motion import Apart
from tests.stream.command import call

Capture = pytest.CaptureFixture[str]
CONFIG = ExplicitConfig("tiny", 4, (8, 8), (0, 1), (), 2, 4)


@pytest.fixture
def recording(small_camera: Callable[..., SyntheticCamera], tmp_path: Path) -> Path:
    path = tmp_path / "mine.nire"
    with small_camera(seconds=1.0, frame_rate_hz=25, exposure_us=4000) as camera:
        info = SourceInfo("mine", camera.info.geometry)
        with RecordingWriter(path, info.geometry, source=info) as writer:
            for packet in camera:
                if isinstance(packet, EventBatch | Frame | Gap):
                    writer.write(packet)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Weights that are wrong in a way that frames tell: everything is too bright."""
    torch.manual_seed(0)
    network = KeyPlaneNetwork(CONFIG)
    with torch.no_grad():
        network.layers.leave.bias[:4] = 0.2
    weights.save(network, tmp_path / "base.safetensors", {})
    return tmp_path / "base.safetensors"


def repaired(
    network: KeyPlaneNetwork, lessons: Sequence[Lesson], apart: Sequence[Lesson], **_: object
) -> KeyPlaneNetwork:
    """Learn what the lessons say, at once: that nothing is to be corrected."""
    assert len(lessons) > 2 * len(apart) > 0
    better = copy.deepcopy(network)
    torch.nn.init.zeros_(better.layers.leave.bias)
    return better


def settings(base: Path) -> list[str]:
    return ["--set", f"reconstructor.weights={base}", "--set", "reconstructor.device=cpu"]


def test_what_helps_is_written_with_a_picture_and_can_be_used(
    recording: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(adaptation, "adapt", repaired)
    out = tmp_path / "mine" / "own.safetensors"
    done = call(capsys, "adapt", str(recording), "--out", str(out), "--minutes", "1", *settings(base))
    assert done.code == 0, done.err
    assert sorted(path.name for path in out.parent.iterdir()) == ["own.png", "own.safetensors"]
    assert "before" in done.err
    assert "after" in done.err
    assert weights.metadata(out)["base"] == str(base)
    assert cv2.imread(str(out.with_suffix(".png"))) is not None
    assert neural.create(Geometry(32, 24), weights=str(out), engine="eager").name == "neural"


def test_what_does_not_help_is_not_written(
    recording: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(adaptation, "adapt", lambda network, *_, **__: network)
    out = tmp_path / "mine" / "own.safetensors"
    done = call(capsys, "adapt", str(recording), "--out", str(out), "--minutes", "0.05", *settings(base))
    assert done.code == 1
    assert "not better: nothing was written" in done.err
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("moving", "still", "better"),
    [(0.5, 0.0, True), (0.5, -0.2, False), (0.0, 0.5, False), (0.1, float("nan"), True), (float("nan"), 0.1, False)],
)
def test_better_means_moving_pixels_gain_and_still_ones_do_not_lose(moving: float, still: float, better: bool) -> None:
    def apart(of_moving: float, of_still: float) -> Apart:
        return Apart(*([value] if np.isfinite(value) else [] for value in (of_moving, of_still)))

    assert adapt._is_better({"before": apart(30, 40), "after": apart(30 + moving, 40 + still)}) is better


def test_networks_of_the_paper_names_and_short_recordings_are_refused(
    recording: Path, base: Path, tmp_path: Path, capsys: Capture
) -> None:
    paper = weights.shipped("paper_nano")
    assert paper is not None
    for arguments, said in (
        (["--out", tmp_path / "a.safetensors", *settings(paper)], "holds another network"),
        (["--out", tmp_path / "a.bin", *settings(base)], "expected a name that ends in .safetensors"),
    ):
        done = call(capsys, "adapt", str(recording), *map(str, arguments))
        assert done.code == 2
        assert said in done.err
