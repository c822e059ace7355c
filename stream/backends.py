"""From the configuration to a backend: the only place that maps one to the other."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
import typing
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

import nire.backends
from nire.backends import prepare_torch
from nire.errors import ConfigError, WeightsError
from nire.shutter import Shutter
from nire.types import Calibration, ContentWindow, EventBatch, FallsBack, Frame, Geometry, Query, Reconstructor
from stream.config import Config
from stream.config_advice import nearest

# What backends may take of the rest of the configuration, by the name of their argument, and the key where it is set.
_SHARED = {
    "bin_us": "planes.bin_us",
    "threads": "reconstructor.threads",
    "size": "reconstructor.size",
    "weights": "reconstructor.weights",
    "engine": "reconstructor.engine",
    "precision": "reconstructor.precision",
}

_log = logging.getLogger(__name__)


def open_reconstructor(config: Config, geometry: Geometry, *, has_frames: bool = True) -> Reconstructor:
    """Make the configured backend with the settings that it takes.

    Args:
        config: its reconstructor and planes are used.
        geometry: of the sensor.
        has_frames: False for a source with events only: `auto` is `events_only` then.

    Raises:
        ConfigError: there is no such backend, or it has no such setting.
    """
    wanted = config.reconstructor
    backend = wanted.backend_for(has_frames=has_frames)
    if backend != wanted.backend:
        _log.warning(
            "the source has events but no frames: the backend is %s. Events tell changes, not brightness: its images "
            "are a guess that starts from gray",
            backend,
        )
    module = _module(backend)
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
    check_backend_settings(config, backend)
    return cast(Reconstructor, module.create(geometry, wanted.device, **settings, **wanted.settings))


def check_backend_settings(config: Config, backend: str) -> None:
    """Check that `[reconstructor.settings]` names only what a backend has of its own.

    Raises:
        ConfigError: there is no such backend, or it has no such setting.
    """
    create = _module(backend).create
    fixed = {"geometry", "device", *_SHARED}
    own = [name for name in inspect.signature(create).parameters if name not in fixed]
    for name in config.reconstructor.settings:
        if name in _SHARED:
            raise ConfigError(f"reconstructor.settings.{name}: it is a key of its own, {_SHARED[name]}")
        if name not in own:
            hint = nearest(name, own) if own else "it has none of its own"
            raise ConfigError(f"the backend {backend!r} has no setting {name!r}; {hint}")


def reconstructor_type(backend: str) -> type[Reconstructor] | None:
    """Tell what class a backend makes, by what its `create` is annotated with; None where that does not tell.

    Raises:
        ConfigError: there is no such backend.
    """
    try:
        made = typing.get_type_hints(_module(backend).create).get("return")
    except NameError:  # a name that is there for type checkers only
        return None
    # Of several that are made, by the weights, each would be told the same.
    first = next(iter(typing.get_args(made)), made)
    return cast(type[Reconstructor], first) if hasattr(first, "needs_frames") and hasattr(first, "name") else None


def check_device(config: Config, backend: str) -> None:
    """Check that torch has the configured device, for a backend that computes with torch: it takes `threads`.

    Raises:
        ConfigError: there is no such backend or device.
    """
    if "threads" in inspect.signature(_module(backend).create).parameters:
        prepare_torch(config.reconstructor.device, threads=0)


def runs_on_cpu(config: Config) -> bool:
    """Tell whether the configured device is the CPU; torch is imported for it.

    Raises:
        ConfigError: a GPU is asked for that torch cannot use.
    """
    return prepare_torch(config.reconstructor.device, threads=0).type == "cpu"


def check_weights(config: Config, backend: str) -> None:
    """Check the weights that a backend would load (its `weights_file`), by the header of their file.

    Raises:
        ConfigError: there is no such backend.
        WeightsError: missing, damaged, or of another network.
    """
    from nire.network import weights  # takes a tenth of a second, and a backend without a network needs none of it

    module = _module(backend)
    if backend != config.reconstructor.backend:
        # Without frames `auto` would not look at the size; with frames it could not begin.
        _module(config.reconstructor.backend).weights_file(config.reconstructor.size, config.reconstructor.weights)
    if hasattr(module, "weights_file"):
        weights.outline(module.weights_file(config.reconstructor.size, config.reconstructor.weights))
    elif config.reconstructor.weights:
        # The method would not look at them; who names a file that is not there has made a mistake all the same.
        weights.outline(Path(config.reconstructor.weights))


def weights_of(config: Config, backend: str) -> Path | None:
    """Name the weights that a backend would load; None for a backend without a network.

    Raises:
        ConfigError: there is no such backend.
        WeightsError: there are no such weights.
    """
    module, wanted = _module(backend), config.reconstructor
    if not hasattr(module, "weights_file"):
        return None
    path: Path = module.weights_file(wanted.size, wanted.weights)
    return path


def engine_of(config: Config, backend: str) -> str:
    """Tell which engine would run a backend's network, without making it; "" for a backend without one.

    Raises:
        ConfigError: there is no such backend, device or engine, or the engine has not the precision.
        EngineError: the engine cannot run here.
    """
    module, wanted = _module(backend), config.reconstructor
    if not hasattr(module, "weights_file"):
        return ""
    from nire.engines import Job
    from nire.engines.choice import check_engine
    from nire.network import weights
    from nire.network.config import named

    try:
        network = weights.outline(module.weights_file(wanted.size, wanted.weights))
    except WeightsError:
        # What is wrong with the engine can be said without weights, too.
        network = weights.unfilled(named(wanted.size))
    height, width = network.config.padded(1, 1)
    job = Job(height, width, (), prepare_torch(wanted.device, threads=0), wanted.precision)
    return check_engine(wanted.engine, network, job)


def warm_up(reconstructor: Reconstructor, geometry: Geometry) -> None:
    """Build and expose one empty window: loops and kernels are loaded, and memory is there, before the first real one.

    One of its pixels is hot: the loop that ignores such pixels would else be compiled when the first ones are found,
    in the midst of the stream.

    Args:
        reconstructor: of any backend.
        geometry: of the sensor.
    """
    dark = np.full((geometry.height, geometry.width, geometry.channels), 64, np.uint8)
    frames = (Frame(0, dark, 0, 1000), Frame(1, dark, 2000, 3000)) if reconstructor.needs_frames else ()
    hot_pixels = np.zeros((geometry.height, geometry.width), np.bool_)
    hot_pixels[0, 0] = True
    window = ContentWindow(
        0,
        0,
        3000,
        frames,
        EventBatch.empty(3000),
        geometry,
        answers_us=(0, 3000),
        covered_us=(0, 3000),
        calibration=Calibration(hot_pixels=hot_pixels),
    )
    query = Query(window.film, Shutter.instant(1500.0, geometry.height), "warm-up")
    if isinstance(reconstructor, FallsBack):
        reconstructor.falls_back = True
        reconstructor.expose(reconstructor.build(window), [query])
        reconstructor.falls_back = False
    reconstructor.expose(reconstructor.build(window), [query])


def backends() -> list[str]:
    """Names of the backends of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(nire.backends.__path__))


def _module(backend: str) -> ModuleType:
    name = backend if "." in backend else f"nire.backends.{backend}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        module = None
    if module is None or not hasattr(module, "create"):
        raise ConfigError(
            f"reconstructor.backend = {backend!r}: no such backend; there are {', '.join(backends())}, or the dotted "
            "name of your own module"
        )
    return module
