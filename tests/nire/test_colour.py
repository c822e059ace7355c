"""A mosaic becomes the colours that it was made of."""

from __future__ import annotations

import numpy as np
import pytest

from nire.colour import PATTERNS, demosaiced
from nire.metrics import psnr
from nire.simulate import quantised
from tests.nire.colour_scene import colour_scene, mosaic_of


@pytest.mark.parametrize("pattern", PATTERNS)
def test_flat_colours_come_back_exactly_and_in_their_order(pattern: str) -> None:
    image = np.full((16, 20, 3), (200, 120, 30), np.uint8)
    np.testing.assert_array_equal(demosaiced(mosaic_of(image, pattern), pattern), image)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_scene_comes_back_nearly(pattern: str) -> None:
    light = colour_scene(96, 72).light(1e6)
    image = np.concatenate([quantised(light[..., c]) for c in range(3)], axis=2)
    found = demosaiced(mosaic_of(image, pattern), pattern)
    assert psnr(found, image) > 30
    assert psnr(found[..., ::-1], image) < 20


def test_what_is_no_mosaic_is_refused() -> None:
    with pytest.raises(ValueError, match="RGGB"):
        demosaiced(np.zeros((8, 8), np.uint8), "RGB")
    with pytest.raises(ValueError, match="4 x 4"):
        demosaiced(np.zeros((8, 8, 3), np.uint8), "RGGB")
