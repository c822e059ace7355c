"""The method of a stream: cameras that are alike share what is loaded, and their images are those of one alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivers.source import SourceInfo
from nire.shutter import Shutter
from nire.types import ContentWindow, Query
from stream.config import load_config
from stream.processes.method import Method
from tests.nire.windows import GEOMETRY, random_events, random_frame, window_of

INFO = SourceInfo("test", GEOMETRY)


def window(seed: int) -> ContentWindow:
    frames = random_frame(seed, 0, 20_000, 30_000), random_frame(seed + 1, 1, 60_000, 70_000)
    return window_of(frames, random_events(seed + 2, 500, 10_000, 80_000))


def built(method: Method, seed: int) -> Any:
    return method.reconstructor.build(window(seed))


def images(method: Method, content: Any) -> Any:
    film = window(1).film
    queries = [Query(film, Shutter.instant(t_us, GEOMETRY.height), "") for t_us in (30_000.0, 50_000.0)]
    return method.reconstructor.expose(content, queries).copy()


@pytest.mark.parametrize("backend", ["edi", "neural", "auto"])
def test_siblings_that_work_in_turn_give_the_images_of_each_alone(backend: str) -> None:
    named = ("engine=eager", "precision=fp32", "device=cpu", f"backend={backend}")
    config = load_config(None, [f"reconstructor.{each}" for each in named])
    alone = Method.opened(config, INFO)
    expected = [images(alone, built(alone, seed)) for seed in (1, 7)]
    first = Method.opened(config, INFO)
    second = Method.beside([first], config, INFO)
    assert second is not None
    contents = built(first, 1), built(second, 7)
    np.testing.assert_array_equal(images(first, contents[0]), expected[0])
    np.testing.assert_array_equal(images(second, contents[1]), expected[1])


def test_cameras_that_differ_in_method_or_sensor_share_none() -> None:
    config = load_config(None, ["reconstructor.backend=edi", "reconstructor.device=cpu"])
    first = Method.opened(config, INFO)
    other = load_config(None, ["reconstructor.backend=edi", "reconstructor.device=cpu", "planes.bin_us=250"])
    assert Method.beside([first], other, INFO) is None
    assert Method.beside([first], config, SourceInfo("test", GEOMETRY, has_frames=False)) is None
    assert Method.beside([], config, INFO) is None
