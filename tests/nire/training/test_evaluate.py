"""Evaluation: protocols on rendered windows and on folders of sharp frames, its table, its file, its errors."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from nire.errors import ConfigError
from nire.network import weights
from nire.training.evaluate import all_methods, main
from nire.training.methods import as_pixels, edi_true_threshold, neural, passthrough
from nire.training.protocols import FOOTAGE, RENDERED, cases
from nire.training.sequences import find_sequences, read_window
from tests.nire.network.tiny import network as tiny_network
from tests.nire.training.rooms import write_images

TASKS = {
    "deblur_mid",
    "deblur_edge",
    "sharp_vfi",
    "blurry_vfi",
    "unroll",
    "unroll_deblur",
    "live_edge",
    "reshutter_long",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), count=12, size=(120, 120))


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in the layout of GoPro: a texture that slides by a pixel a frame."""
    folder = tmp_path_factory.mktemp("footage")
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (24, 160)).astype(np.float32), (0, 0), 1.5)
    wide = np.clip((wide - 127) * 4 + 127, 10, 245).astype(np.uint8)
    for part in ("test", "train"):
        for name in ("sharp", "blur"):
            (folder / part / "SHOT_1" / name).mkdir(parents=True)
        for k in range(97):
            cv2.imwrite(str(folder / part / "SHOT_1" / "sharp" / f"{k:06d}.png"), wide[:, k : k + 40])
    cv2.imwrite(str(folder / "test" / "SHOT_1" / "blur" / "000000.png"), wide[:, :40])
    return folder


def test_rendered_protocol_writes_every_task_of_every_method(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights.save(tiny_network(), tmp_path / "tiny.safetensors", {})
    out = tmp_path / "pictures"
    arguments = ["rendered", str(images), "--json", str(tmp_path / "r.json"), "--out", str(out), "--windows", "1"]
    assert main([*arguments, "--cascade", "--weights", str(tmp_path / "tiny.safetensors")]) == 0
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["protocol"] == "rendered"
    methods = {row["method"] for row in written["rows"]}
    assert methods >= {"passthrough", "edi", "edi_true_threshold", "tiny", "tiny_cascade"}
    assert {(row["method"], row["task"]) for row in written["rows"]} == {(m, t) for m in methods for t in TASKS}
    counted = {task.name: len(task.asked) for task in RENDERED}
    assert all(row["n"] == counted[row["task"]] and np.isfinite(row["psnr"]) for row in written["rows"])
    assert {path.name for path in out.iterdir()} == {f"rendered_realistic_{task}.png" for task in TASKS}
    assert "edi_true_threshold" in capsys.readouterr().out


def test_cascades_follow_the_networks_that_they_are_made_of_where_they_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    weights.save(tiny_network(), path, {})
    plain, more = (list(all_methods([path], torch.device("cpu"), cascades=wanted)) for wanted in (False, True))
    networks = plain[4:]
    assert "tiny" in networks
    assert more == [*plain, *(f"{size}_cascade" for size in networks)]


def test_protocol_is_the_same_in_every_run(images: Path) -> None:
    first, second = (list(cases("rendered", images, noise="realistic", windows=1)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.window.target, b.window.target)
        assert torch.equal(a.window.counts, b.window.counts)
        assert torch.equal(a.positive, b.positive)


def test_thresholds_are_believed_wrongly_and_alike_in_all_tasks(images: Path) -> None:
    made = list(cases("rendered", images, noise="realistic", windows=1))
    assert len({float(case.positive[0]) for case in made}) == 1
    assert all(float(case.positive[0]) != float(case.window.sensors.threshold_positive[0]) for case in made)


@pytest.mark.parametrize("protocol", FOOTAGE)
def test_sets_of_sharp_frames_are_evaluated(footage: Path, tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "figures.json"
    assert main([protocol, str(footage), "--json", str(path), "--noise", "ideal", "--windows", "2"]) == 0
    rows = {row["method"]: row for row in json.loads(path.read_text())["rows"]}
    assert {row["task"] for row in rows.values()} == {FOOTAGE[protocol].task.name}
    assert rows["edi_true_threshold"]["psnr"] > rows["passthrough"]["psnr"]


def test_asked_instants_of_a_set_are_its_frames(footage: Path) -> None:
    case = next(cases("gopro-vfi7", footage, noise="ideal", windows=1))
    assert case.window.target.shape[:2] == (1, 7)
    shot = find_sequences(footage, least=9)[0]
    for k in range(7):
        right = cv2.imread(str(shot.frames[k + 1]), cv2.IMREAD_GRAYSCALE)
        assert np.abs(as_pixels(case.window.target)[0, k].astype(int) - right).max() <= 1


def test_blurry_frame_of_a_set_is_the_mean_of_its_frames_in_linear_light(footage: Path) -> None:
    case = next(cases("gopro-deblur", footage, noise="ideal", windows=1))
    scenes = read_window(find_sequences(footage, least=11)[0], 0, 11, frame_us=4000.0)
    nodes = scenes.light[0]
    mean = (nodes[:-1] + nodes[1:]).mean(0) / 2
    assert (case.window.frames[0, 0] - mean).abs().max() < 0.01


def test_averages_and_training_frames_of_a_set_are_left_out(footage: Path) -> None:
    assert [sequence.name for sequence in find_sequences(footage, least=2)] == ["test/SHOT_1/sharp"]


def test_passthrough_gives_the_nearest_frame(images: Path) -> None:
    case = next(c for c in cases("rendered", images, noise="ideal", windows=1) if c.task == "sharp_vfi")
    given = passthrough(case)
    assert torch.equal(given[0, 0], case.window.frames[0, 0])
    assert torch.equal(given[0, 2], case.window.frames[0, 1])


def test_double_integral_is_ahead_of_the_captured_frame_with_an_ideal_sensor(images: Path) -> None:
    for case in cases("rendered", images, noise="ideal", windows=2):
        errors = [
            (m(case).clamp(max=1) - case.window.target).square().mean() for m in (edi_true_threshold, passthrough)
        ]
        assert errors[0] < errors[1], case.task


def test_network_answers_sizes_that_it_must_pad(footage: Path) -> None:
    case = next(cases("gopro-deblur", footage, noise="realistic", windows=1))
    given = neural(tiny_network(), torch.device("cpu"))(case)
    assert given.shape == case.window.target.shape
    assert torch.isfinite(given).all()


def test_data_that_cannot_serve_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gopro-deblur", str(tmp_path / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert main(["gopro-deblur", str(tmp_path)]) == 2
    assert "holds no image" in capsys.readouterr().err
    write_images(tmp_path / "shot", count=1)
    assert main(["gopro-deblur", str(tmp_path)]) == 2
    assert "its longest sequence, 'shot', has 1 frame(s); a window needs at least 11" in capsys.readouterr().err


def test_frames_of_mixed_sizes_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, count=4)
    write_images(tmp_path / "other", count=1, size=(50, 40))
    (tmp_path / "other" / "picture0.png").rename(tmp_path / "picture9.png")
    with pytest.raises(ConfigError, match=r"picture9\.png: is 50 x 40, but picture0\.png is 90 x 80"):
        read_window(find_sequences(tmp_path, least=5)[0], 0, 5, frame_us=1000.0)


def test_unknown_protocol_is_refused_with_the_known_ones(images: Path) -> None:
    with pytest.raises(ConfigError, match="no protocol 'moon'; choose one of rendered, videos, gopro-deblur"):
        cases("moon", images, noise="ideal", windows=1)
