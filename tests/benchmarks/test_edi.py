"""What `bench edi` measures on, and that each figure is there at each size."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import edi
from benchmarks.material import pairs, tiled
from nire.types import ContentWindow, Geometry


@pytest.fixture(scope="module")
def window() -> ContentWindow:
    return pairs(0.4)[2]


@pytest.mark.parametrize("size", [(640, 480), (346, 260), (100, 300)])
def test_larger_sensor_sees_the_scene_again_and_again(window: ContentWindow, size: tuple[int, int]) -> None:
    larger = tiled(window, Geometry(*size))
    events, few = larger.events, window.events
    assert (np.diff(events.t_us) >= 0).all()
    for geometry, batch in ((larger.geometry, events), (window.geometry, few)):
        assert batch.x.max() < geometry.width
        assert batch.y.max() < geometry.height
    counts = np.zeros((size[1], size[0]), int)
    np.add.at(counts, (events.y, events.x), 1)
    once = np.zeros((260, 346), int)
    np.add.at(once, (few.y, few.x), 1)
    np.testing.assert_array_equal(counts, np.tile(once, (2, 2))[: size[1], : size[0]])
    for frame, seen in zip(larger.frames, window.frames, strict=True):
        np.testing.assert_array_equal(frame.pixels, np.tile(seen.pixels, (2, 2, 1))[: size[1], : size[0]])


def test_ratios_are_told_at_each_size_with_the_bytes_that_they_are_over(
    window: ContentWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"": Geometry(346, 260), "_vga": Geometry(64, 48)}
    monkeypatch.setattr(edi, "_SIZES", small)
    results = {result.metric: result for result in edi.run()}
    for size in small:
        for metric in ("query_copy_ratio", "wide_copy_ratio", "build_meps"):
            assert results[metric + size].value > 0
    assert "2.2 MB in all" in results["query_copy_ratio"].note  # 346 x 260 pixels of 6 x 4 + 1 bytes
    assert f"{small['_vga'].width} x {small['_vga'].height}" in results["build_meps_vga"].note
