"""Fixtures for all tests: where the real recordings are, a small scene, a small camera."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.cameras.synthetic import SyntheticCamera, open_source
from nire.simulation.scene import LayeredScene, make_scene


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what engines prepare out of the user's cache, in child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real recordings: $NIRE_DATA, or ../shared/data beside the repository; skips where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NIRE_DATA", beside))
    if not (folder / "recordings").is_dir():
        pytest.skip(f"no real recordings in {folder}: set NIRE_DATA to a folder that has recordings/")
    return folder


@pytest.fixture(scope="session")
def small_scene() -> LayeredScene:
    """The default scene at 64 x 48, moving."""
    return make_scene("default", width=64, height=48, seed=3)


@pytest.fixture
def small_camera() -> Callable[..., SyntheticCamera]:
    """Make a synthetic camera of 64 x 48 pixels that delivers 0.2 s as fast as asked; settings may be overridden."""

    def make(**settings: Any) -> SyntheticCamera:
        return open_source(**{"width": 64, "height": 48, "seed": 3, "seconds": 0.2, "live": False, **settings})

    return make
