"""Evaluation on videos: squares that move, the eight tasks on them, and what cannot serve."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from nire.errors import ConfigError
from nire.training.evaluate import main
from nire.training.protocols import RENDERED, cases
from nire.training.sequences import light_between
from nire.training.videos import FASTEST_PX, WIDTH_PX, find_videos, read_stretches


def write_video(path: Path, *, frames: int, size: tuple[int, int] = (200, 150), step_px: int = 1) -> Path:
    """A dark picture whose right half is a texture that slides; MJPG, frame by frame as it was."""
    width, height = size
    rng = np.random.default_rng(4)
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (height, width // 2 + step_px * frames)), (0, 0), 2.5)
    wide = np.clip((wide - 127) * 6 + 127, 10, 245).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, size)
    assert writer.isOpened()
    for k in range(frames):
        picture = np.full((height, width), 30, np.uint8)
        picture[:, width // 2 :] = wide[:, k * step_px : k * step_px + width - width // 2]
        writer.write(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def test_protocol_on_videos_writes_every_task(tmp_path: Path) -> None:
    write_video(tmp_path / "set" / "first.avi", frames=40)
    write_video(tmp_path / "set" / "second.avi", frames=17)
    path = tmp_path / "figures.json"
    assert main(["videos", str(tmp_path / "set"), "--windows", "3", "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    assert written["protocol"] == "videos"
    counted = {task.name: 3 * len(task.asked) for task in RENDERED}
    assert {row["task"]: row["n"] for row in written["rows"] if row["method"] == "edi"} == counted
    figures = {(row["method"], row["task"]): row["psnr"] for row in written["rows"]}
    assert all(figures["edi", task] > figures["passthrough", task] for task in ("sharp_vfi", "live_edge"))


def test_windows_of_videos_are_the_same_in_every_run(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", frames=20)
    first, second = (next(cases("videos", tmp_path, noise="realistic", windows=1)) for _ in range(2))
    assert torch.equal(first.window.counts, second.window.counts)
    assert torch.equal(first.window.target, second.window.target)


def test_few_windows_are_spread_over_all_videos(tmp_path: Path) -> None:
    for name, step_px in (("a.avi", 1), ("b.avi", 2)):
        write_video(tmp_path / name, frames=49, step_px=step_px)
    windows = [case.window for case in cases("videos", tmp_path, noise="ideal", windows=2) if case.task == "sharp_vfi"]
    liveliest = [read_stretches(path, frames=17, crop_px=128, most=1)[0] for path in find_videos(tmp_path)]
    for window, stretch in zip(windows, liveliest, strict=True):
        assert np.abs(window.target[0, 1].numpy() - stretch.light[8]).max() < 1e-5


def test_square_lies_where_the_video_moves(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames=17)
    (stretch,) = read_stretches(path, frames=17, crop_px=64, most=3)
    assert stretch.light.shape == (17, 64, 64)
    assert stretch.light.std(axis=(1, 2)).min() > 0.05
    moved = np.abs(stretch.light[1:, :, :-2] - stretch.light[:-1, :, 1:-1]).mean()
    assert moved < 0.3 * np.abs(np.diff(stretch.light, axis=0)).mean()


def test_stretches_without_fast_motion_come_first(tmp_path: Path) -> None:
    slow = write_video(tmp_path / "slow.avi", frames=17, step_px=1)
    fast = write_video(tmp_path / "fast.avi", frames=17, step_px=6)
    speeds = [read_stretches(path, frames=17, crop_px=64, most=1)[0].speed_px for path in (slow, fast)]
    assert speeds[0] < FASTEST_PX < speeds[1]
    joined = tmp_path / "joined.avi"
    writer = cv2.VideoWriter(str(joined), cv2.VideoWriter.fourcc(*"MJPG"), 30, (200, 150))
    # Stretches of 16 frames share their ends: the first is all fast but for its last frame, the second all slow.
    for path, frames in ((fast, 15), (slow, 16)):
        capture = cv2.VideoCapture(str(path))
        for _ in range(frames):
            writer.write(capture.read()[1])
        capture.release()
    writer.release()
    assert [s.speed_px > FASTEST_PX for s in read_stretches(joined, frames=16, crop_px=64, most=2)] == [False, True]


def test_wide_videos_are_reduced(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames=3, size=(2 * WIDTH_PX, 300), step_px=4)
    (stretch,) = read_stretches(path, frames=3, crop_px=150, most=1)
    assert stretch.light.shape == (3, 150, 150)
    assert 1.5 < stretch.speed_px < 2.5


def test_frames_are_nodes_of_light_with_straight_lines_between() -> None:
    frames = np.stack([np.full((4, 5), value, np.float32) for value in (0.1, 0.5, 0.3)])
    scenes = light_between(frames, frame_us=1000.0)
    assert float(scenes.window_us[0]) == 2000.0
    assert torch.allclose(scenes.light[0, ::8, 0, 0], torch.tensor([0.1, 0.5, 0.3]))
    assert float(scenes.light[0, 4, 0, 0]) == pytest.approx(0.3)


def test_videos_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        find_videos(tmp_path / "none")
    with pytest.raises(ConfigError, match="holds no video; expected files like"):
        find_videos(tmp_path)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    with pytest.raises(ConfigError, match=r"broken\.mp4: cannot be read as a video"):
        read_stretches(broken, frames=17, crop_px=128, most=1)
    with pytest.raises(ConfigError, match=r"has 5 frame\(s\); at least 17 are needed"):
        read_stretches(write_video(tmp_path / "short.avi", frames=5), frames=17, crop_px=128, most=1)
    with pytest.raises(ConfigError, match=r"is 200 x 100 once reduced; at least 128 each way"):
        read_stretches(write_video(tmp_path / "low.avi", frames=17, size=(200, 100)), frames=17, crop_px=128, most=1)


def test_command_refuses_a_folder_without_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["videos", str(tmp_path)]) == 2
    assert "holds no video" in capsys.readouterr().err


@pytest.mark.real
def test_real_videos_give_squares_that_move(shared_data: Path) -> None:
    for path in find_videos(shared_data / "videos")[:2]:
        stretches = read_stretches(path, frames=17, crop_px=128, most=2)
        assert len(stretches) == 2
        assert stretches[0].light.shape == (17, 128, 128)
        assert all(stretch.change > 1 for stretch in stretches)
