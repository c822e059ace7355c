"""From a name to an engine: by file, by dotted name, or by what is there."""

from __future__ import annotations

import contextlib
import importlib
import logging
import pkgutil
from types import ModuleType

import nire.engines
from nire.engines import Engine, Job
from nire.errors import ConfigError, EngineError
from nire.explicit.engines import check_cleaner
from nire.explicit.network import KeyPlaneNetwork
from nire.network.reexposure import ReExposureNetwork
from nire.network.weights import Network
from nire.recurrent.engines import check_runner
from nire.recurrent.network import RecurrentNetwork

_log = logging.getLogger(__name__)

ORDER = {"cpu": ("openvino", "eager"), "cuda": ("eager",)}
"""What "auto" tries, per kind of device.

`compiled` takes minutes to start, and `cudagraph` and `tensorrt` have not been run on a GPU: these run where named.
"""
# Parameters of the largest network that is converted unasked: `base` takes minutes.
_QUICKLY_MADE = 10_000_000


def open_engine(name: str, network: ReExposureNetwork, job: Job) -> Engine:
    """Make an engine.

    Args:
        name: "auto", a file under nire/engines/, or the dotted name of a module with `create(network, job)`.
        network: is the engine's from now on.
        job: what for.

    Raises:
        ConfigError: there is no such engine, or it has not the precision.
        EngineMissing: what it needs is not there; says what to install.
        EngineMismatch: what was prepared is for another network, sensor or machine.
    """
    if name != "auto":
        engine: Engine = _module(name).create(network, job)
        return engine
    *preferred, last = _order(network, job)
    for candidate in preferred:
        try:
            engine = _module(candidate).create(network, job)
        except (ConfigError, EngineError) as reason:
            _log.info("engine %s is passed over: %s", candidate, reason)
            continue
        _log.info("engine: %s, the fastest known for %s that is here", engine.name, job.device.type)
        return engine
    _log.info("engine: %s", last)
    engine = _module(last).create(network, job)
    return engine


def check_engine(name: str, network: Network, job: Job) -> str:
    """Tell which engine `open_engine`, or `open_cleaner`, takes, as far as that is known before one is made.

    Each engine says in `check(network, job)` what it refuses; a module without it is taken as good.

    Args:
        name: as for `open_engine`.
        network: its weights are not looked at; they may be on torch's meta device.
        job: what for.

    Returns:
        The name of the engine.

    Raises:
        ConfigError, EngineError: as `open_engine`.
    """
    if isinstance(network, KeyPlaneNetwork):
        return check_cleaner(name, job)
    if isinstance(network, RecurrentNetwork):
        return check_runner(name, job)
    if name != "auto":
        return _checked(name, network, job)
    *preferred, last = _order(network, job)
    for candidate in preferred:
        with contextlib.suppress(ConfigError, EngineError):
            return _checked(candidate, network, job)
    return _checked(last, network, job)


def engines() -> list[str]:
    """Names of the engines of this package; whether they run here, `create` says."""
    names = sorted(module.name for module in pkgutil.iter_modules(nire.engines.__path__))
    return [name for name in names if hasattr(importlib.import_module(f"nire.engines.{name}"), "create")]


def _order(network: ReExposureNetwork, job: Job) -> tuple[str, ...]:
    """List what "auto" tries for a network; the last one takes what the others refuse."""
    *_, last = ORDER[job.device.type]
    if sum(weight.numel() for weight in network.parameters()) <= _QUICKLY_MADE:
        return ORDER[job.device.type]
    _log.info("engine: %s; a network of this size would take minutes to prepare for others", last)
    return (last,)


def _checked(name: str, network: ReExposureNetwork, job: Job) -> str:
    module = _module(name)
    if hasattr(module, "check"):
        module.check(network, job)
    return name


def _module(name: str) -> ModuleType:
    full = name if "." in name else f"nire.engines.{name}"
    try:
        module = importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name is None or not full.startswith(error.name):
            raise
        module = None
    if module is None or not hasattr(module, "create"):
        raise ConfigError(
            f"reconstructor.engine = {name!r}: no such engine; there are auto, {', '.join(engines())}, or the dotted "
            "name of your own module"
        )
    return module
