"""A colour camera whose events lie on its Bayer mosaic too: exposed frames in colour, ahead of the captured ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.recordings.recording.source import RecordingWriter
from nire.colour import demosaiced
from nire.metrics import psnr
from nire.shutter import Shutter
from nire.simulation.simulate import quantised
from nire.types import Frame, Geometry
from stream.commands.offline import run
from stream.config import load_config
from tests.nire.colour_scene import ColourScene, bayer_view, colour_scene, mosaic_of, record

WIDTH, HEIGHT, FIRST_US = 96, 72, 1_000_000
INNER = (slice(4, -4), slice(4, -4))


@pytest.fixture(scope="module")
def scene() -> ColourScene:
    """Things of four colours, fast enough to blur."""
    return colour_scene(WIDTH, HEIGHT, motion=8.0)


@pytest.fixture(scope="module", params=["bayer", "luma"])
def recording(request: pytest.FixtureRequest, scene: ColourScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames; events either behind the frames' own colour filter, or from a sensor that sees luma."""
    starts = [FIRST_US + 10_000 + 40_000 * n for n in range(8)]
    shutters = [Shutter.flat(start, start + 20_000, HEIGHT) for start in starts]
    settings = {"view": bayer_view("RGGB")} if request.param == "bayer" else {}
    batches, frames = record(scene, shutters, first_us=FIRST_US, end_us=starts[-1] + 35_000, **settings)
    if request.param == "bayer":
        frames = [replace(f, pixels=demosaiced(mosaic_of(f.pixels, "RGGB"), "RGGB")) for f in frames]
    path = tmp_path_factory.mktemp("colour") / f"{request.param}.nire"
    packets = sorted([*batches, *frames], key=lambda p: p.last_us + 1 if isinstance(p, Frame) else p.watermark_us)
    geometry = Geometry(WIDTH, HEIGHT, channels=3, bayer="RGGB" if request.param == "bayer" else "")
    with RecordingWriter(path, geometry) as writer:
        for packet in packets:
            writer.write(packet)
    return path


def exposed(recording: Path, folder: Path, backend: str) -> dict[float, NDArray[np.uint8]]:
    """RGB images by the time of their shutter."""
    settings = [
        "plan.name=deblur",
        f"reconstructor.backend={backend}",
        "reconstructor.engine=eager",
        "reconstructor.device=cpu",
    ]
    assert run(load_config(None, settings), recording, folder / backend) == 0
    lines = [json.loads(line) for line in (folder / backend / "frames.jsonl").read_text().splitlines()]
    read = {line["t_a_us"]: cv2.imread(str(folder / backend / line["file"])) for line in lines}
    return {t_us: np.ascontiguousarray(image[..., ::-1]) for t_us, image in read.items()}


def truth(scene: ColourScene, t_us: float) -> NDArray[np.uint8]:
    light = scene.light(t_us)
    return np.concatenate([quantised(light[..., channel]) for channel in range(3)], axis=2)


@pytest.mark.parametrize("backend", ["edi", "neural"])
def test_exposed_colours_are_nearer_to_the_truth_than_the_captured_ones(
    scene: ColourScene, recording: Path, tmp_path: Path, backend: str
) -> None:
    sharp, captured = exposed(recording, tmp_path, backend), exposed(recording, tmp_path, "passthrough")
    assert len(sharp) == 8
    gains = []
    for t_us, image in sharp.items():
        wanted = truth(scene, t_us)[INNER]
        gains.append(psnr(image[INNER], wanted) - psnr(captured[t_us][INNER], wanted))
        assert psnr(np.ascontiguousarray(image[INNER][..., ::-1]), wanted) < 22  # red is not blue
    print(recording.stem, backend, "gain in dB:", np.round(gains, 1), "mean", round(float(np.mean(gains)), 2))
    # Events behind a filter are taken for what they are by edi: each pixel is re-exposed in its own colour.
    assert np.mean(gains) > (4.0 if (recording.stem, backend) == ("bayer", "edi") else 1.5)
