"""What makes images visible: dark ones become bright, good ones stay, and nothing pumps."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from nire.shutter import Shutter
from nire.types import ExposedFrame, Frame, Stamps
from stream.display import Tone
from stream.outputs import open_output


def scene(low: int, high: int, height: int = 120, width: int = 160) -> np.ndarray:
    """A noisy ramp from `low` to `high`, uint8 [H, W, 1]."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(low, high, width) + rng.normal(0, 1, (height, width))
    return np.clip(ramp, 0, 255).astype(np.uint8)[..., None]


def learned(pixels: np.ndarray) -> Tone:
    tone = Tone()
    tone.learn(pixels, 0.0)
    return tone


def test_dark_image_is_made_visible() -> None:
    dark = scene(2, 60)
    shown = learned(dark).shown(dark)
    assert dark.mean() < 32
    assert 90 < shown.mean() < 140
    assert shown.max() > 240


def test_image_that_is_well_exposed_hardly_changes() -> None:
    good = scene(0, 255)
    assert np.abs(learned(good).shown(good).astype(int) - good).mean() < 16


def test_order_of_values_is_kept() -> None:
    table = learned(scene(20, 80)).table.astype(int)
    assert (np.diff(table) >= 0).all()
    assert table[0] < 5
    assert table[-1] == 255


def test_noise_of_a_black_image_does_not_fill_the_screen() -> None:
    black = scene(3, 3)
    assert np.std(learned(black).shown(black)) < 30


@pytest.mark.parametrize("pixels", [np.zeros((1, 1, 1), np.uint8), np.full((3, 5, 3), 255, np.uint8)])
def test_image_of_one_value_is_shown(pixels: np.ndarray) -> None:
    assert learned(pixels).shown(pixels).shape == pixels.shape


def test_colours_stay_in_their_order() -> None:
    colour = np.concatenate([scene(2, 20), scene(2, 40), scene(2, 60)], axis=2)
    red, green, blue = learned(colour).shown(colour)[:, -1].mean(axis=0)
    assert red < green < blue


def test_what_moves_through_the_picture_does_not_make_it_pump() -> None:
    tone, tables = Tone(), []
    for index in range(200):
        pixels = scene(2, 60)
        left = 8 * index % 160
        pixels[20:60, left : left + 30] = 180 if index % 2 else 0
        tone.learn(pixels, index * 25_000.0)
        tables.append(tone.table.astype(int))
    assert max(np.abs(after - before).max() for before, after in itertools.pairwise(tables[40:])) <= 4


def test_other_light_is_followed_within_seconds() -> None:
    tone = learned(scene(2, 40))
    bright = scene(100, 250)
    for index in range(400):
        tone.learn(bright, index * 25_000.0)
    assert np.abs(tone.table.astype(int) - learned(bright).table).max() < 8


def test_time_that_goes_back_or_jumps_changes_little_at_once() -> None:
    tone = learned(scene(2, 40))
    before = tone.table.astype(int)
    for t_us in (-1e15, float("nan"), float("inf")):
        tone.learn(scene(2, 42), t_us)
    assert np.abs(tone.table.astype(int) - before).max() < 24


def frame(pixels: np.ndarray) -> ExposedFrame:
    return ExposedFrame(0, 0, pixels, Shutter.rolling(0, 0, row_delay_us=0, height=len(pixels)), "t", Stamps(0))


@pytest.mark.parametrize(("output", "file"), [("video", "video.mp4"), ("beside", "beside.mp4"), ("gif", "video.gif")])
@pytest.mark.parametrize("plain", [False, True])
def test_films_show_what_is_dark_unless_plain_values_are_asked_for(
    tmp_path: Path, output: str, file: str, plain: bool
) -> None:
    dark = scene(2, 60)
    with open_output(output, tmp_path, in_order=True, plain=plain) as film:
        if hasattr(film, "captured"):
            film.captured(Frame(0, dark, 0, 0))
        film.write(frame(dark), index=0)
    reader = cv2.VideoCapture(str(tmp_path / file))
    mean = reader.read()[1].mean()
    reader.release()
    assert (mean < 40) == plain
