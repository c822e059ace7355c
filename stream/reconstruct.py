"""From the configuration to a backend: the only place that maps one to the other."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
from typing import Any, cast

import nire.backends
from nire.errors import ConfigError
from nire.types import Geometry, Reconstructor
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


def backends() -> list[str]:
    """Names of the backends of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(nire.backends.__path__))
