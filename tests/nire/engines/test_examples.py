"""Windows that engines measure the network with: as cameras give them, and the same each time."""

from __future__ import annotations

import pytest
import torch

from nire.engines.examples import windows
from nire.network.reexposure import ReExposureNetwork
from tests.nire.network import tiny


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_windows_are_what_the_network_takes_and_are_alive(frames: int) -> None:
    network: ReExposureNetwork = tiny.network()
    made = list(windows(network.config, height=tiny.HEIGHT, width=tiny.WIDTH, frames=frames, count=3))
    assert len(made) == 3
    for inputs in made:
        network.check_build(*inputs)
        images, voxels, image_ranges, segment_ranges, _ = inputs
        assert all(bool(((tensor >= 0) & (tensor <= 1)).all()) for tensor in (images, image_ranges, segment_ranges))
        assert bool((voxels > 0).any())
        assert bool((voxels < 0).any())
        assert all(image.std() > 0.02 for image in images[0])
    assert not torch.equal(made[0][1], made[1][1])


def test_small_images_change_as_much_as_large_ones() -> None:
    # 8 bits have room for what was measured: where everything was slow, what is fast is cut off.
    config = tiny.network().config

    def change(height: int, width: int) -> float:
        made = windows(config, height=height, width=width, frames=0, count=3)
        return sum(float(voxels.abs().mean()) for _, voxels, *_ in made)

    assert change(64, 96) > change(192, 288)


def test_windows_repeat() -> None:
    config = tiny.network().config
    first, again = (next(windows(config, height=32, width=48, frames=2, count=1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
