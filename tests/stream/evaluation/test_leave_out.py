"""Left-out frames: which are hidden, from whom, against what they are compared, and what the command refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.cameras.synthetic import SyntheticCamera
from drivers.recordings.recording.source import RecordingWriter
from drivers.source import SourceInfo
from nire.errors import ConfigError, SourceError
from nire.metrics import psnr
from nire.types import Calibration, Content, ContentWindow, EventBatch, Frame, Gap, Query
from stream.config import load_config
from stream.evaluation.leave_out import TASK, compare
from stream.evaluation.recording import Recorded, columns_of, open_backends, read, windows_of
from tests.stream import packets
from tests.stream.command import call

SETTINGS = ("reconstructor.device=cpu", "reconstructor.threads=1", "source.time_offset_us=0")


def in_memory(*settings: str) -> Recorded:
    return Recorded(load_config(None, [*SETTINGS, *settings]), packets.INFO, tuple(packets.usual()))


@pytest.fixture(scope="module")
def whole() -> slice:
    return slice(0, packets.GEOMETRY.width)


@pytest.fixture
def filmed(small_camera: Callable[..., SyntheticCamera], tmp_path: Path) -> Path:
    """A synthetic camera's recording of ten sharp frames."""
    path = tmp_path / "filmed.nire"
    with small_camera(seconds=0.4, frame_rate_hz=25, exposure_us=1000) as camera:
        info = SourceInfo("filmed", camera.info.geometry)
        with RecordingWriter(path, info.geometry, source=info) as writer:
            for packet in camera:
                if isinstance(packet, EventBatch | Frame | Gap):
                    writer.write(packet)
    return path


def test_every_second_frame_is_compared_with_its_nearest_neighbour(
    whole: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stream.evaluation.leave_out.ssim", lambda image, truth: 1.0
    )  # 12 x 9 is too small for its window
    recorded = in_memory()
    found = compare(recorded, open_backends(recorded, ["passthrough"]), whole)
    frames = recorded.frames
    # Nothing follows the sixth frame, so it is not left out. Of two neighbours at one distance the first counts.
    expected = [psnr(frames[k - 1].pixels, frames[k].pixels) for k in (1, 3)]
    assert found.scores["passthrough", TASK].psnr == expected
    # Two rows, twice enlarged, below the names; captured and exposed beside each other.
    assert found.picture.shape == (20 + 2 * 2 * packets.GEOMETRY.height, 2 * 2 * packets.GEOMETRY.width, 1)


def test_left_out_frames_reach_no_window(whole: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.evaluation.leave_out.ssim", lambda image, truth: 1.0)
    recorded = in_memory()
    seen: list[int] = []

    class Watching:
        name, engine, needs_frames = "watching", "none", True

        def build(self, window):  # type: ignore[no-untyped-def]
            seen.extend(frame.index for frame in window.frames)
            self.window = window
            return window

        def expose(self, content, queries):  # type: ignore[no-untyped-def]
            captured = {frame.mid_us for frame in self.window.frames}
            assert captured.isdisjoint(query.shutter.mid_us for query in queries)
            return np.zeros((len(queries), *packets.frames()[0].pixels.shape), np.uint8)

    compare(recorded, {"watching": Watching()}, whole)
    assert set(seen) == {0, 2, 4}


def test_windows_have_the_calibration_that_a_stream_over_all_frames_ends_with(filmed: Path) -> None:
    recorded = read(load_config(None, SETTINGS[:2]), filmed, discard=0)
    backend = open_backends(recorded, ["edi"])["edi"]
    *_, last = windows_of(recorded, recorded.packets, "pair")
    seen: list[Calibration] = []

    class Watching:
        name, engine, needs_frames = "watching", "none", True

        def build(self, window: ContentWindow) -> Content:
            seen.append(window.calibration)
            return backend.build(window)

        def expose(self, content: Content, queries: Sequence[Query]) -> Sequence[NDArray[np.uint8]]:
            return backend.expose(content, queries)

    compare(recorded, {"watching": Watching()}, slice(0, recorded.info.geometry.width))
    assert seen
    assert last.calibration.threshold_positive != Calibration().threshold_positive
    for calibration in seen:
        assert calibration.threshold_positive == last.calibration.threshold_positive
        assert calibration.threshold_negative == last.calibration.threshold_negative
        assert calibration.time_offset_us == last.calibration.time_offset_us


def test_double_integral_is_ahead_of_the_neighbouring_frame(filmed: Path) -> None:
    recorded = read(load_config(None, SETTINGS), filmed, discard=0)
    backends = open_backends(recorded, ["passthrough", "edi"])
    scores = compare(recorded, backends, slice(0, recorded.info.geometry.width)).scores
    assert len(scores["edi", TASK].psnr) == (len(recorded.frames) - 1) // 2
    assert np.mean(scores["edi", TASK].psnr) > np.mean(scores["passthrough", TASK].psnr) + 2


def test_command_writes_figures_and_a_picture(filmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pictures"
    options = ["--backend", "passthrough", "edi", "--columns", "4:40", "--discard", "1", "--set", SETTINGS[0]]
    done = call(capsys, "evaluate", "leave-out", filmed, *options, "--json", tmp_path / "f.json", "--out", out)
    assert done.code == 0, done.err
    assert "passthrough" in done.out
    written = json.loads((tmp_path / "f.json").read_text())
    assert written["protocol"] == "leave-out"
    keys = {"method", "task", "psnr", "ssim", "n", "psnr_moving", "psnr_still", "breathing", "seam_ratio"}
    assert [set(row) for row in written["rows"]] == [keys] * 2
    assert [row["method"] for row in written["rows"]] == ["passthrough", "edi"]
    picture = cv2.imread(str(out / "leave_out.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape[1] == 2 * 3 * 36
    assert cv2.imread(str(out / "moving.png"), cv2.IMREAD_UNCHANGED).shape[1] > picture.shape[1]


@pytest.mark.parametrize("name", ["leave-out", "events-alone", "consistency"])
def test_help_names_the_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = call(capsys, "evaluate", name, "--help")
    assert done.code == 0
    for option in ("--backend", "--columns", "--discard", "--json", "--set"):
        assert option in done.out
    # Lines may break after a hyphen.
    assert f"evaluate {name}" in re.sub(r"\s+", " ", call(capsys, "evaluate", "--help").out).replace("- ", "-")


def test_discarded_frames_are_gone(filmed: Path) -> None:
    config = load_config(None, SETTINGS)
    every, fewer = (read(config, filmed, discard=n).frames for n in (0, 2))
    assert [frame.index for frame in fewer] == [frame.index for frame in every[2:]]
    with pytest.raises(SourceError, match="holds no frames"):
        read(config, filmed, discard=1000)


def test_recording_that_is_too_short_is_refused(whole: slice) -> None:
    recorded = in_memory()
    two = Recorded(recorded.config, recorded.info, tuple(p for p in recorded.packets if getattr(p, "index", 0) < 2))
    with pytest.raises(ConfigError, match=r"none of its 2 frames lies between two others"):
        compare(two, open_backends(two, ["passthrough"]), whole)


@pytest.mark.parametrize("text", ["40", "a:b", "10:20", "50:40", ""])
def test_columns_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected A:B, at least 11 columns within 0:64"):
        columns_of(text, 64)


def test_columns_count_as_in_python() -> None:
    assert columns_of(None, 64) == slice(0, 64)
    assert columns_of("0:190", 240) == slice(0, 190)
    assert columns_of(":-20", 64) == slice(0, 44)


def test_backends_that_cannot_be_are_refused(filmed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for names, words in (
        (["eddi"], "no such backend; there are auto, edi"),
        (["edi", "edi"], "name each only once"),
        (["neural:none.safetensors"], "none.safetensors"),
    ):
        done = call(capsys, "evaluate", "leave-out", filmed, "--backend", *names)
        assert done.code == 2
        assert words in done.err


@pytest.mark.real
def test_real_frames_are_exposed_better_than_guessed(shared_data: Path) -> None:
    path = shared_data / "recordings" / "evbench_seq_0001_davis240b.npz"
    recorded = read(load_config(None, SETTINGS[:2]), path, discard=0)
    assert recorded.frames[0].index == 1  # its driver leaves frame 0 out
    scores = compare(recorded, open_backends(recorded, ["passthrough", "edi"]), slice(0, 190)).scores
    assert len(scores["edi", TASK].psnr) == 9
    assert np.mean(scores["edi", TASK].psnr) > np.mean(scores["passthrough", TASK].psnr) + 4
