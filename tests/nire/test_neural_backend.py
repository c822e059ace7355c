"""The neural backend: what an untrained network must give, and what it refuses. Trained quality is `evaluate`'s."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nire.backends import edi, events_only, neural
from nire.errors import ConfigError, ShutterOutsideWindow, WeightsError
from nire.metrics import psnr
from nire.network import weights
from nire.network.config import named
from nire.network.reexposure import ReExposureNetwork
from nire.shutter import Shutter
from nire.types import ContentWindow, Film, Gap, Geometry, Query
from tests.nire.windows import random_events, random_frame, window_of

GEOMETRY = Geometry(40, 36)
COLOUR = Geometry(40, 36, 3)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the weights of an untrained nano network: it returns the blend of the re-exposures."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    weights.save(ReExposureNetwork(named("nano")), path, {})
    return path


def window(geometry: Geometry = GEOMETRY, frames: int = 2) -> ContentWindow:
    starts = (100_000, 140_000)[:frames]
    captured = tuple(random_frame(7, i, start, start + 20_000, geometry=geometry) for i, start in enumerate(starts))
    events = random_events(2, 3000, 80_000, 180_000, geometry)
    made = window_of(captured, events, geometry=geometry)
    return replace(made, covered_us=(95_000.0, captured[-1].last_us + 5000))


def queries(*t_us: float, geometry: Geometry = GEOMETRY) -> list[Query]:
    film = Film(geometry.height, geometry.width, geometry.channels)
    return [Query(film, Shutter.instant(t, geometry.height), "test") for t in t_us]


@pytest.mark.parametrize("frames", [1, 2])
def test_untrained_network_returns_what_the_physics_gives(untrained: Path, frames: int) -> None:
    backend = neural.create(GEOMETRY, weights=str(untrained), engine="eager", precision="fp32")
    physics = edi.create(GEOMETRY)
    asked = queries(101_000.0, 110_000.0, 119_000.0)
    image = backend.expose(backend.build(window(frames=frames)), asked)
    expected = physics.expose(physics.build(window(frames=frames)), asked)
    assert psnr(image, expected) > 40


def test_image_does_not_depend_on_the_other_queries(untrained: Path) -> None:
    backend = neural.create(GEOMETRY, weights=str(untrained), engine="eager", precision="fp32")
    content = backend.build(window())
    together = backend.expose(content, queries(*np.linspace(101_000, 158_000, 5))).copy()
    alone = backend.expose(content, queries(np.linspace(101_000, 158_000, 5)[3]))
    assert np.abs(together[3].astype(int) - alone[0].astype(int)).max() <= 1


def test_colours_come_from_the_frames(untrained: Path) -> None:
    backend = neural.create(COLOUR, weights=str(untrained), engine="eager", precision="fp32")
    made = window(COLOUR)
    image = backend.expose(backend.build(made), queries(110_000.0, geometry=COLOUR))
    assert image.shape == (1, 36, 40, 3)
    physics = edi.create(COLOUR)
    expected = physics.expose(physics.build(made), queries(110_000.0, geometry=COLOUR))
    assert psnr(image, expected) > 30


def test_gap_is_told_to_the_network(untrained: Path) -> None:
    backend = neural.create(GEOMETRY, weights=str(untrained), engine="eager", precision="fp32")
    broken = replace(window(), gaps=(Gap(121_000, 139_000, "lost"),))
    image = backend.expose(backend.build(broken), queries(110_000.0))
    assert np.isfinite(image).all()


def test_shutter_outside_the_window_is_refused(untrained: Path) -> None:
    backend = neural.create(GEOMETRY, weights=str(untrained), engine="eager", precision="fp32")
    with pytest.raises(ShutterOutsideWindow):
        backend.expose(backend.build(window()), queries(300_000.0))


def test_content_that_was_replaced_is_refused(untrained: Path) -> None:
    backend = neural.create(GEOMETRY, weights=str(untrained), engine="eager", precision="fp32")
    old = backend.build(window())
    backend.build(window())
    with pytest.raises(ValueError, match="replaced"):
        backend.expose(old, queries(110_000.0))


def test_foreign_weights_and_unknown_precision_are_refused(untrained: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"no weights at all")
    with pytest.raises(WeightsError, match="foreign"):
        neural.create(GEOMETRY, weights=str(foreign))
    with pytest.raises(ConfigError, match="int8"):
        neural.create(GEOMETRY, weights=str(untrained), engine="eager", precision="int8")
    with pytest.raises(WeightsError, match="'base'"):
        neural.create(GEOMETRY, size="base")


def test_engine_that_runs_stands_in_the_header(untrained: Path) -> None:
    assert neural.create(GEOMETRY, weights=str(untrained), engine="eager").engine == "eager"
    assert events_only.create(GEOMETRY, weights=str(untrained), engine="eager").engine == "eager"
    with pytest.raises(ConfigError, match="no such engine"):
        neural.create(GEOMETRY, weights=str(untrained), engine="warp")
