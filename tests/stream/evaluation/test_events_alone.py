"""Images of events alone beside captured frames: which are compared, how they are brought near, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers.cameras.synthetic import open_source
from drivers.recordings.recording.source import RecordingWriter
from drivers.source import SourceInfo
from nire.errors import ConfigError
from nire.types import Content, ContentWindow, EventBatch, Frame, Gap, Query
from stream.config import load_config
from stream.evaluation.events_alone import TASK, compare, fitted, open_methods, seen
from stream.evaluation.recording import Recorded, read
from tests.stream.command import call

SETTINGS = ["reconstructor.device=cpu", "reconstructor.threads=1", "reconstructor.engine=eager"]


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten sharp frames and the events of a synthetic camera whose events are ideal."""
    path = tmp_path_factory.mktemp("filmed") / "filmed.nire"
    settings = {"width": 64, "height": 48, "noise": "ideal", "seconds": 0.8, "live": False}
    with open_source(**settings, frame_rate_hz=25, exposure_us=1000) as camera:
        info = SourceInfo("filmed", camera.info.geometry)
        with RecordingWriter(path, info.geometry, source=info) as writer:
            for packet in camera:
                if isinstance(packet, EventBatch | Frame | Gap):
                    writer.write(packet)
    return path


@pytest.fixture(scope="module")
def recorded(filmed: Path) -> Recorded:
    return read(load_config(None, SETTINGS), filmed, discard=0)


class Asked:
    """Gives gray images, and remembers what it was asked."""

    name, engine, needs_frames = "asked", "", False

    def __init__(self) -> None:
        self.frames = 0
        self.shutters_us: list[float] = []

    def build(self, window: ContentWindow) -> Content:
        self.frames += len(window.frames)
        return window

    def expose(self, content: Content, queries: list[Query]) -> np.ndarray:
        self.shutters_us += [query.shutter.mid_us for query in queries]
        film = queries[0].film
        return np.full((len(queries), film.height, film.width, film.channels), 100, np.uint8)


def test_every_frame_after_the_warm_up_is_asked_for_and_none_is_shown(recorded: Recorded) -> None:
    asked = Asked()
    found = compare(recorded, {"asked": asked}, slice(0, 64), warm_up_us=200_000)
    middles_us = [frame.shutter.mid_us for frame in recorded.frames]
    expected = [t_us for t_us in middles_us if t_us >= middles_us[0] + 200_000]
    assert asked.frames == 0
    assert asked.shutters_us == pytest.approx(expected[: len(asked.shutters_us)])
    assert len(expected) - 1 <= len(asked.shutters_us) == len(found.scores["asked", TASK].psnr)


def test_events_say_more_than_nothing(recorded: Recorded) -> None:
    """Light carried by ideal events is nearer to the frames than their mean is."""
    found = compare(recorded, {**open_methods(recorded, ["physics"]), "gray": Asked()}, slice(0, 64))
    for kind in ("psnr", "ssim"):
        of = {name: np.mean(getattr(score, kind)) for (name, _), score in found.scores.items()}
        assert of["gray"] == of["constant"]
        assert of["physics"] > of["constant"] + (1 if kind == "psnr" else 0.1)


def test_gain_and_offset_are_found_and_never_turn_an_image_over() -> None:
    right = np.random.default_rng(1).integers(60, 190, (20, 30, 1)).astype(np.uint8)
    assert np.abs(fitted(right[..., 0] * 0.2 + 90, right).astype(int) - right).max() <= 1
    assert np.ptp(fitted(255.0 - right[..., 0], right)) == 0
    assert np.ptp(fitted(np.full((20, 30), 7.0), right)) == 0


def test_frames_are_compared_as_they_are_seen() -> None:
    linear = Frame(0, np.full((2, 2, 1), 55, np.uint8), 0, 1, transfer="linear")
    assert (seen(linear.pixels, linear) == 128).all()  # 0.216 of white
    srgb = Frame(0, np.full((2, 2, 3), 128, np.uint8), 0, 1, transfer="srgb")
    assert seen(srgb.pixels, srgb).shape == (2, 2, 1)
    assert np.abs(seen(srgb.pixels, srgb).astype(int) - 128).max() <= 1


def test_command_writes_figures_and_a_picture(filmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, figures = tmp_path / "pictures", tmp_path / "figures.json"
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    done = call(
        capsys, "evaluate", "events-alone", str(filmed), "--backend", "physics", "--json", str(figures),
        "--out", str(out), *settings,
    )  # fmt: skip
    assert done.code == 0, done.err
    written = json.loads(figures.read_text())
    assert (written["protocol"], [row["method"] for row in written["rows"]]) == (
        "events-alone",
        ["constant", "physics"],
    )
    picture = cv2.imread(str(out / "events_alone.png"))
    assert picture is not None
    assert picture.shape[0] > 4 * 48


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--warm-up", "9"], "see --warm-up"),
        (["--backend", "physics", "physics"], "only once"),
        (["--backend", "nowhere.safetensors"], "nowhere"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    filmed: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    done = call(capsys, "evaluate", "events-alone", str(filmed), *words, *settings)
    assert done.code == 2
    assert message in done.err


def test_error_names_how_many_frames_there_are(recorded: Recorded) -> None:
    with pytest.raises(ConfigError, match=f"none of its {len(recorded.frames)} frames"):
        compare(recorded, {"asked": Asked()}, slice(0, 64), warm_up_us=1e9)
