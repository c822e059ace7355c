"""Two cameras on a bench through offline and replay: sharp frames in the right colours, losses in the report."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from nire.metrics import psnr
from stream.display import Tone
from stream.preview.images import Look, encoded
from tests.drivers.cameras.hybrid.rig import Rig, build
from tests.stream.command import run
from tests.system.commanded import EVERYTHING, Command

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """Fast things in colour; frame 6 loses both edges, and one edge was never an exposure's."""
    return build(
        tmp_path_factory.mktemp("rig"),
        count=10,
        motion=8.0,
        lost=((3, True), (6, True), (6, False)),
        spurious_us=(95_000,),
    )


def config_of(rig: Rig, folder: Path) -> Path:
    config = folder / "rig.toml"
    config.write_text(
        f"""
        [source]
        driver = "hybrid"
        [source.settings]
        registration = "{rig.registration}"
        [source.settings.events]
        driver = "auto"
        [source.settings.frames]
        driver = "recorded"
        path = "{rig.frames}"
        transfer = "linear"
        [plan]
        name = "deblur"
        """
    )
    return config


def exposed(rig: Rig, folder: Path, *settings: str) -> tuple[dict[float, NDArray[np.uint8]], dict[str, object]]:
    """Run the command; give RGB images by the time of their shutter, and the report."""
    overrides = [word for setting in settings for word in ("--set", setting)]
    done = run("offline", config_of(rig, folder), rig.events, folder / "out", *overrides)
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (folder / "out" / "frames.jsonl").read_text().splitlines()]
    read = {line["t_a_us"]: cv2.imread(str(folder / "out" / line["file"])) for line in lines}
    report = json.loads((folder / "out" / "run.json").read_text())
    return {t_us: np.ascontiguousarray(image[..., ::-1]) for t_us, image in read.items()}, report


@pytest.mark.parametrize("backend", ["edi", "neural"])
def test_deblurred_frames_are_nearer_to_the_truth_in_colour_than_the_captured(
    rig: Rig, tmp_path: Path, backend: str
) -> None:
    sharp, report = exposed(rig, tmp_path, f"reconstructor.backend={backend}", "reconstructor.engine=eager")
    captured, _ = exposed(rig, tmp_path, "reconstructor.backend=passthrough")
    assert len(sharp) == 9
    assert report["losses"]["lost_frames"] == 1
    assert report["source"]["exposures_estimated"] == 1
    assert report["source"]["frames_without_edges"] == 1
    inner = (slice(4, -4), slice(4, -4))
    gains = []
    for t_us, image in sharp.items():
        truth = rig.truth(t_us)[inner]
        gains.append(psnr(image[inner], truth) - psnr(captured[t_us][inner], truth))
        assert psnr(image[inner][..., ::-1], truth) < psnr(image[inner], truth) - 3  # red is red, blue is blue
    assert np.mean(gains) > 1.5


def test_upsampled_frames_between_the_captured_are_nearer_to_the_truth(rig: Rig, tmp_path: Path) -> None:
    settings = ("plan.name=upsample", "plan.rate_hz=100")
    between, _ = exposed(rig, tmp_path, *settings)
    nearest, _ = exposed(rig, tmp_path, *settings, "reconstructor.backend=passthrough")
    inner = (slice(4, -4), slice(4, -4))
    gains = [
        psnr(image[inner], truth) - psnr(nearest[t_us][inner], truth)
        for t_us, image in between.items()
        for truth in [rig.truth(t_us)[inner]]
    ]
    assert len(gains) > 25
    assert np.mean(gains) > 2.5


def test_replay_sends_the_images_of_offline_over_the_wire_and_to_the_preview(rig: Rig, tmp_path: Path) -> None:
    offline, _ = exposed(rig, tmp_path)
    with Command("replay", config_of(rig, tmp_path), rig.events, "--speed", "max", settings=EVERYTHING) as stream:
        messages = list(stream.received("frame/deblur"))
        done = stream.wait()
    assert done.code == 0, done.err
    assert {message.header["t_a_us"] for message in messages} == set(offline)
    assert messages[-1].header["lost_frames"] == 1
    for message in messages:
        image = offline[message.header["t_a_us"]]
        np.testing.assert_array_equal(message.pixels, image)
        shown = encoded("exposed", message.pixels, Look(levelled=False), Tone())
        assert shown is not None
        seen = cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]  # OpenCV reads blue first
        assert psnr(np.ascontiguousarray(seen), image) > 28
