"""Evaluation in RGB and from the blurry frames that a set brings along, held against sets whose arithmetic is plain."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.light import decode_table, encode_table
from nire.metrics import psnr
from nire.training import evaluate
from nire.training.captured import find_captured
from nire.training.evaluate import compare
from nire.training.methods import Method, as_pixels, cascade, edi, edi_true_threshold, neural, passthrough
from nire.training.protocols import FOOTAGE, PUBLISHED, Blur, Channels, cases
from nire.training.sequences import find_sequences
from tests.nire.network.tiny import network as tiny_network

Images = NDArray[np.uint8]
METHODS: dict[str, Method] = {"passthrough": passthrough, "edi_true_threshold": edi_true_threshold}


def sliding(count: int, *, coloured: bool, step_px: int = 1) -> Images:
    """Make frames of a texture that slides by: uint8 [count, 24, 40, 3]."""
    rng = np.random.default_rng(3)
    gray = cv2.GaussianBlur(rng.uniform(0, 255, (24, 40 + count * step_px)).astype(np.float32), (0, 0), 1.5)
    gray = np.clip((gray - 127) * 4 + 127, 30, 245)
    wide = (gray[..., None] * ([1.0, 0.8, 0.6] if coloured else [1.0] * 3)).astype(np.uint8)
    return np.stack([wide[:, k * step_px : k * step_px + 40] for k in range(count)])


def mean_of(frames: Images, transfer: str) -> Images:
    """Average frames in light, one by one: what a set's blurry frame is."""
    light = np.zeros(frames.shape[1:])
    for frame in frames:
        light += decode_table(transfer)[frame] / len(frames)  # type: ignore[arg-type]
    return encode_table(transfer)[np.rint(light * 32).astype(int)]  # type: ignore[arg-type]


def write(folder: Path, frames: Images, *, numbers: range | None = None) -> Path:
    folder.mkdir(parents=True)
    for number, frame in zip(numbers or range(len(frames)), frames, strict=True):
        cv2.imwrite(str(folder / f"{number:06d}.png"), frame[..., ::-1])
    return folder


def write_pairs(home: Path, frames: Images, averaged: int, transfer: str = "srgb") -> Path:
    """Write frames, and for each that has enough around it a blurry one of its name."""
    half = averaged // 2
    inside = range(half, len(frames) - half)
    write(home / "sharp", frames)
    write(home / "blur", np.stack([mean_of(frames[k - half : k + half + 1], transfer) for k in inside]), numbers=inside)
    return home


def figures(
    data: Path, protocol: str, *, channels: Channels = "gray", blur: Blur = "made", noise: str = "ideal"
) -> dict[str, float]:
    made = cases(protocol, data, noise=noise, windows=1, channels=channels, blur=blur)
    scores, _ = compare(made, METHODS)
    return {method: float(np.mean(score.psnr)) for (method, _), score in scores.items()}


@pytest.mark.parametrize("protocol", FOOTAGE)
def test_gray_pictures_stored_as_rgb_get_the_same_figures_in_both(tmp_path: Path, protocol: str) -> None:
    write(tmp_path / "shot", sliding(97, coloured=False))
    gray, rgb = (figures(tmp_path, protocol, channels=channels) for channels in ("gray", "rgb"))
    assert rgb == pytest.approx(gray, abs=0.05)


def test_colours_are_kept_and_each_channel_counts(tmp_path: Path) -> None:
    frames = sliding(9, coloured=True)
    write(tmp_path / "shot", frames)
    case = next(cases("gopro-vfi7", tmp_path, noise="ideal", windows=1, channels="rgb"))
    truth = np.moveaxis(as_pixels(case.target), 2, 4)[0]
    assert np.array_equal(truth, frames[1:8])
    assert np.array_equal(np.moveaxis(as_pixels(case.frames), 2, 4)[0], frames[[0, 8]])
    scores, pictures = compare(iter([case]), METHODS)
    nearest = [frames[0]] * 4 + [frames[8]] * 3  # halfway the first
    assert scores["passthrough", "sharp_vfi"].psnr == [psnr(a, b) for a, b in zip(nearest, frames[1:8], strict=True)]
    assert (
        np.mean(scores["edi_true_threshold", "sharp_vfi"].psnr) > np.mean(scores["passthrough", "sharp_vfi"].psnr) + 2
    )
    assert pictures["sharp_vfi"].shape[2] == 3
    assert np.array_equal(pictures["sharp_vfi"][20::2, -80::2], frames[1][..., ::-1])


def test_frames_and_truth_are_the_sets_own_whatever_the_clocks_do(tmp_path: Path) -> None:
    frames = sliding(9, coloured=True, step_px=3)
    write(tmp_path / "shot", frames)
    case = next(cases("gopro-vfi7", tmp_path, noise="realistic", windows=1, channels="rgb"))
    assert float(case.window.sensors.offset_us[0]) != 0
    assert np.abs(np.moveaxis(as_pixels(case.target), 2, 4)[0].astype(int) - frames[1:8]).max() <= 1


def test_paper_network_and_cascade_answer_in_colour(tmp_path: Path) -> None:
    write(tmp_path / "shot", sliding(19, coloured=True))
    case = next(cases("gopro-deblur-vfi", tmp_path, noise="ideal", windows=1, channels="rgb"))
    network = neural(tiny_network(), evaluate.torch.device("cpu"))
    for method in (network, cascade(network), cascade(edi)):
        found = method(case)
        assert found.shape == case.target.shape
        assert bool(evaluate.torch.isfinite(found).all())
        assert float((found[:, :, 0] - found[:, :, 2]).abs().max()) > 0.01
    assert float((cascade(edi_true_threshold)(case) - case.target).square().mean()) < float(
        (passthrough(case) - case.target).square().mean()
    )


@pytest.mark.parametrize("protocol", ["gopro-deblur", "gopro-deblur-vfi"])
def test_means_of_a_set_serve_as_well_as_means_made_here(tmp_path: Path, protocol: str) -> None:
    write_pairs(tmp_path / "test" / "GOPR0001_11_00", sliding(40, coloured=True), 11)
    made, own = (figures(tmp_path, protocol, channels="rgb", blur=blur) for blur in ("made", "own"))
    assert own == pytest.approx(made, abs=1.0)
    assert own["edi_true_threshold"] > own["passthrough"] + 3


def test_means_of_pixel_values_are_taken_for_what_they_are(tmp_path: Path) -> None:
    frames = sliding(13, coloured=True)
    write_pairs(tmp_path / "GOPR0001_11_00", frames, 11, "linear")
    case = next(cases("gopro-deblur", tmp_path, noise="ideal", windows=1, channels="rgb", blur="own"))
    assert case.transfer == "linear"
    assert np.array_equal(np.moveaxis(as_pixels(case.target, "linear"), 2, 4)[0, 0], frames[6])
    scores, _ = compare(iter([case]), METHODS)
    given = {method: np.mean(score.psnr) for (method, _), score in scores.items()}
    assert given["edi_true_threshold"] > given["passthrough"] + 3


def test_captured_frame_is_given_as_it_is_with_its_exposure(tmp_path: Path) -> None:
    home = write_pairs(tmp_path / "GOPR0372_07_00", sliding(9, coloured=True), 7)
    case = next(cases("gopro-deblur", tmp_path, noise="realistic", windows=9, channels="rgb", blur="own"))
    given = np.moveaxis(as_pixels(case.frames, case.transfer), 2, 4)[0, 0]
    assert np.array_equal(given, cv2.imread(str(home / "blur" / "000004.png"))[..., ::-1])
    opens, closes = (case.window.frame_shutters[0, 0, 0] * case.window.window_us).tolist()
    assert closes - opens == pytest.approx(7e6 / 240, rel=1e-4)
    middle_us = float(case.window.shutters.mean() * case.window.window_us)
    assert middle_us == pytest.approx((opens + closes) / 2, abs=1)


def test_pairs_inside_all_frames_are_found_by_their_sharp_one(tmp_path: Path) -> None:
    frames, home = sliding(40, coloured=True), tmp_path / "test" / "GOPR0385_11_01"
    write(home, frames)
    middles = [4, 15, 26]  # GoPro's second clips begin before their first frame
    write(home / "sharp", frames[middles], numbers=range(3011, 3014))
    write(
        home / "blur_gamma",
        np.stack([mean_of(frames[max(0, k - 5) : k + 6], "srgb") for k in middles]),
        numbers=range(3011, 3014),
    )
    (sequence,) = find_sequences(tmp_path, least=11)
    assert sequence.frames[0].parent == home
    found = find_captured(sequence, "blur_gamma")
    assert (found.averaged, sorted(found.middles)) == (11, middles)
    made = list(cases("gopro-deblur", tmp_path, noise="ideal", windows=9, blur="own-gamma"))
    assert len(made) == 2  # the first has no frame before it


def test_blurry_frames_of_other_names_count_by_their_order(tmp_path: Path) -> None:
    home = write(tmp_path / "shot" / "sharp", sliding(13, coloured=False)).parent
    write(home / "blur", sliding(13, coloured=False), numbers=range(100, 113))
    found = find_captured(find_sequences(tmp_path, least=13)[0], "blur")
    assert found.middles[6].name == "000106.png"


def test_sharp_frames_that_lie_too_far_apart_are_refused(tmp_path: Path) -> None:
    frames = sliding(13 * 11, coloured=False)
    home = tmp_path / "GOPR0001_11_00"
    write(home / "sharp", frames[5::11])
    write(home / "blur", np.stack([mean_of(frames[k : k + 11], "linear") for k in range(0, len(frames), 11)]))
    with pytest.raises(
        ConfigError, match=r"blur/000006\.png: is not the mean of the 11 sharp frames .* GOPRO_Large_all"
    ):
        next(cases("gopro-deblur", tmp_path, noise="ideal", windows=1, blur="own"))


def test_blur_that_is_not_there_is_refused(tmp_path: Path) -> None:
    frames = sliding(20, coloured=False)
    write(tmp_path / "none" / "sharp", frames)
    with pytest.raises(ConfigError, match=r"none/blur: holds no image"):
        cases("gopro-deblur", tmp_path / "none", noise="ideal", windows=1, blur="own")
    write(tmp_path / "few" / "sharp", frames)
    write(tmp_path / "few" / "blur", frames[:3], numbers=range(50, 53))
    with pytest.raises(ConfigError, match=r"few/blur: 3 images for 20 in .*sharp"):
        cases("gopro-deblur", tmp_path / "few", noise="ideal", windows=1, blur="own")
    write(tmp_path / "ends" / "sharp", frames)
    write(tmp_path / "ends" / "blur", frames[:3])
    with pytest.raises(ConfigError, match="no window of 'gopro-deblur' has all its blurry frames in 'blur'"):
        cases("gopro-deblur", tmp_path / "ends", noise="ideal", windows=1, blur="own")
    write(tmp_path / "even" / "GOPR0001_08_00" / "sharp", frames)
    write(tmp_path / "even" / "GOPR0001_08_00" / "blur", frames)
    with pytest.raises(ConfigError, match="average 8 sharp ones; expected an odd number"):
        cases("gopro-deblur", tmp_path / "even", noise="ideal", windows=1, blur="own")
    write(tmp_path / "lone" / "shot", frames)
    write(tmp_path / "lone" / "shot" / "blur", frames[:2])
    with pytest.raises(ConfigError, match=r"2 blurry frames, but 0 in .*sharp"):
        cases("gopro-deblur", tmp_path / "lone", noise="ideal", windows=1, blur="own")
    write(tmp_path / "lone" / "shot" / "sharp", 255 - frames[:2])
    with pytest.raises(ConfigError, match="is none of the first 11 frames"):
        cases("gopro-deblur", tmp_path / "lone", noise="ideal", windows=1, blur="own")


def test_protocols_without_colours_or_blur_of_their_own_refuse_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'rendered' is gray; channels rgb is for gopro-deblur"):
        cases("rendered", tmp_path, noise="ideal", windows=1, channels="rgb")
    with pytest.raises(ConfigError, match="'gopro-vfi7' takes no blurry frames of a set; blur own is for gopro-deblur"):
        cases("gopro-vfi7", tmp_path, noise="ideal", windows=1, blur="own")


def test_frames_of_rolling_sets_are_not_taken_for_fast_ones(tmp_path: Path) -> None:
    for name in ("rs_sharp", "rs_blur", "gt"):
        write(tmp_path / "test" / "seq_64_32" / name, sliding(3, coloured=False))
    with pytest.raises(ConfigError, match="holds no image"):
        find_sequences(tmp_path, least=2)
    write(tmp_path / "test" / "other" / "gt", sliding(3, coloured=False))
    assert [sequence.name for sequence in find_sequences(tmp_path, least=2)] == ["test/other/gt"]


def test_command_sets_published_figures_beside_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "all_methods", lambda *_, **__: METHODS)
    write_pairs(tmp_path / "set" / "GOPR0001_11_00", sliding(13, coloured=True), 11)
    path = tmp_path / "figures.json"
    arguments = ["gopro-deblur", str(tmp_path / "set"), "--channels", "rgb", "--blur", "own", "--json", str(path)]
    assert evaluate.main(arguments) == 0
    written = json.loads(path.read_text())
    assert (written["channels"], written["blur"]) == ("rgb", "own")
    assert written["published"] == PUBLISHED["gopro-deblur"] == {"NIRE": 35.03, "EFNet": 35.46}
    assert "NIRE 35.03, EFNet 35.46" in capsys.readouterr().out
