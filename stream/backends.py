"""From the configuration to a backend: the only place that maps one to the other."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
from typing import Any, cast

import numpy as np

import nire.backends
from nire.errors import ConfigError
from nire.shutter import Shutter
from nire.types import ContentWindow, EventBatch, Frame, Geometry, Query, Reconstructor
from stream.config import Config

_log = logging.getLogger(__name__)


def open_reconstructor(config: Config, geometry: Geometry, *, has_frames: bool = True) -> Reconstructor:
    """Make the configured backend with the settings that it takes.

    Args:
        config: its reconstructor and planes are used.
        geometry: of the sensor.
        has_frames: False for a source with events only: unless a backend was set, it is `events_only` then.

    Raises:
        ConfigError: there is no such backend.
    """
    wanted = config.reconstructor
    backend = wanted.backend_for(has_frames=has_frames)
    if backend != wanted.backend:
        _log.warning(
            "the source has events but no frames: the backend is %s. Events tell changes, not brightness: its images "
            "are a guess that starts from gray",
            backend,
        )
    name = backend if "." in backend else f"nire.backends.{backend}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise ConfigError(
            f"reconstructor.backend = {wanted.backend!r}: no such backend; there are {', '.join(backends())}, "
            "or the dotted name of your own module"
        ) from error
    offered: dict[str, Any] = {
        "bin_us": config.planes.bin_us,
        "threads": wanted.threads,
        "size": wanted.size,
        "weights": wanted.weights,
        "engine": wanted.engine,
        "precision": wanted.precision,
    }
    takes = inspect.signature(module.create).parameters
    settings = {key: value for key, value in offered.items() if key in takes}
    return cast(Reconstructor, module.create(geometry, wanted.device, **settings))


def warm_up(reconstructor: Reconstructor, geometry: Geometry) -> None:
    """Build and expose one empty window: loops and kernels are loaded, and memory is there, before the first real one.

    Args:
        reconstructor: of any backend.
        geometry: of the sensor.
    """
    dark = np.full((geometry.height, geometry.width, geometry.channels), 64, np.uint8)
    frames = (Frame(0, dark, 0, 1000), Frame(1, dark, 2000, 3000)) if reconstructor.needs_frames else ()
    window = ContentWindow(
        0, 0, 3000, frames, EventBatch.empty(3000), geometry, answers_us=(0, 3000), covered_us=(0, 3000)
    )
    query = Query(window.film, Shutter.instant(1500.0, geometry.height), "warm-up")
    reconstructor.expose(reconstructor.build(window), [query])


def backends() -> list[str]:
    """Names of the backends of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(nire.backends.__path__))
