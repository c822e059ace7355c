"""A mosaic becomes the colours that it was made of."""

from __future__ import annotations

import numpy as np
import pytest

from nire.colour import PATTERNS, demosaiced, demosaiced_light, filter_of
from nire.metrics import psnr
from nire.simulation.simulate import quantised
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


@pytest.mark.parametrize("pattern", PATTERNS)
def test_filter_names_the_colour_of_each_pixel_and_light_is_demosaiced_alike(pattern: str) -> None:
    light = colour_scene(32, 24).light(1e6)
    image = np.concatenate([quantised(light[..., c]) for c in range(3)], axis=2)
    seen = np.take_along_axis(image, filter_of(pattern, 24, 32), axis=2)[..., 0]
    np.testing.assert_array_equal(seen, mosaic_of(image, pattern))
    found = demosaiced_light(seen.astype(np.float32), pattern)
    np.testing.assert_allclose(np.moveaxis(found, 0, 2), demosaiced(seen, pattern), atol=2)
    own = np.take_along_axis(np.moveaxis(found, 0, 2), filter_of(pattern, 24, 32), axis=2)[..., 0]
    inner = (slice(1, -1), slice(1, -1))  # the outermost pixels are filled in from their neighbours
    np.testing.assert_allclose(own[inner], seen[inner], atol=0.01)  # a pixel keeps what it saw


def test_what_is_no_mosaic_is_refused() -> None:
    with pytest.raises(ValueError, match="RGGB"):
        demosaiced(np.zeros((8, 8), np.uint8), "RGB")
    with pytest.raises(ValueError, match="RGGB"):
        filter_of("RGB", 8, 8)
    with pytest.raises(ValueError, match="4 x 4"):
        demosaiced(np.zeros((8, 8, 3), np.uint8), "RGGB")
