"""Figures of motion: what moves, what breathes, what shows a seam; each by images that are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from nire.types import ContentWindow, EventBatch, Frame, Geometry, Query
from stream.evaluation.motion import (
    PHASES,
    Apart,
    Steadiness,
    below_best,
    gain_corrected,
    moving_crops,
    moving_pixels,
    watch,
)

GEOMETRY = Geometry(40, 30)
STRIPES = np.tile(np.arange(40) % 2 * 100 + 50, (30, 1)).astype(np.uint8)[..., None]


def window(index: int = 0) -> ContentWindow:
    start = 40_000 * index
    pixels = np.zeros((30, 40, 1), np.uint8)
    frames = tuple(Frame(k, pixels, start + 40_000 * k, start + 40_000 * k) for k in (0, 1))
    # One event between the frames at (10, 5), one before them at (20, 20).
    events = EventBatch(
        np.array([start - 3000, start + 9000], np.int64), np.array([20, 10], np.uint16), np.array([20, 5], np.uint16),
        np.ones(2, np.uint8), start + 50_000,
    )  # fmt: skip
    return ContentWindow(index, start - 5000, start + 50_000, frames, events, GEOMETRY)


class Given:
    """A backend that gives the same images for every window."""

    name, engine, needs_frames = "given", "none", True

    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        self.images = np.stack(images)

    def build(self, window: ContentWindow) -> ContentWindow:
        return window

    def expose(self, content: ContentWindow, queries: Sequence[Query]) -> NDArray[np.uint8]:
        assert len(queries) == PHASES
        return self.images


def watched(images: Sequence[NDArray[np.uint8]], windows: int = 3) -> Steadiness:
    steadiness = Steadiness()
    for index in range(windows):
        watch(Given(images), window(index), window(index), steadiness, slice(None))
    return steadiness


def test_pixels_with_events_between_the_frames_move_and_so_do_their_neighbours() -> None:
    moving = moving_pixels(window())
    assert moving.sum() == 9
    assert moving[4:7, 9:12].all()
    hot = np.zeros((30, 40), bool)
    hot[5, 10] = True
    masked = replace(window(), calibration=replace(window().calibration, hot_pixels=hot))
    assert not moving_pixels(masked).any()


def test_moving_and_still_pixels_are_scored_apart_and_gain_does_not_count() -> None:
    moving = np.zeros((30, 40), bool)
    moving[:, :20] = True
    brighter = (STRIPES * 1.5).astype(np.uint8)
    np.testing.assert_allclose(gain_corrected(brighter, STRIPES), STRIPES, atol=0.51)
    apart = Apart()
    wrong = STRIPES.copy()
    wrong[::2, :20] += 10
    wrong[1::2, :20] -= 10
    apart.add(wrong, STRIPES, moving)
    assert apart.moving[0] == pytest.approx(10 * np.log10(255**2 / 100), abs=0.3)
    assert apart.still[0] > 50


def test_images_that_soften_between_frames_breathe() -> None:
    soft = np.full_like(STRIPES, 100) + (STRIPES.astype(int) - 100) // 2
    images = [STRIPES, *[soft.astype(np.uint8)] * (PHASES - 2), STRIPES]
    assert watched(images).breathing == pytest.approx(0.5, abs=0.02)
    assert watched([STRIPES] * PHASES).breathing == 0


def test_step_from_window_to_window_is_held_against_the_steps_within() -> None:
    rising = [np.full_like(STRIPES, 10 * k) for k in range(PHASES)]
    # Back from 70 to 0 at each seam, by tens within.
    assert watched(rising).seam_ratio == pytest.approx(7)
    assert watched(rising, windows=1).seam_ratio == 1


def test_share_and_depth_below_the_best_of_others() -> None:
    apart = {"neural": Apart([30.0, 34.0]), "edi": Apart([31.0, 30.0]), "flow": Apart([29.0, 33.0])}
    assert below_best(apart, "neural", ["edi", "flow"]) == (0.5, 1.0)


def test_crops_show_where_most_moves() -> None:
    image = np.zeros((200, 300, 1), np.uint8)
    moving = np.zeros((200, 300), bool)
    moving[150:160, 250:260] = True
    image[150:160, 250:260] = 255
    crops = moving_crops([image, image], moving)
    assert crops.shape == (3 * 96, 2 * 3 * 96, 1)
    assert (crops == 255).sum() == 2 * 9 * 100
