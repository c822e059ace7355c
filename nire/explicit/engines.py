"""How the network of the explicit content is run: by torch as it is written, or by OpenVINO on a CPU."""

from __future__ import annotations

import importlib
from typing import Protocol

import torch
from torch import Tensor

from nire.engines import DTYPES, Job
from nire.engines.eager import convolving_in, prepared
from nire.errors import ConfigError, EngineError
from nire.explicit.evidence import Evidence, called_up
from nire.explicit.network import KeyPlaneNetwork

ENGINES = ("eager", "openvino")


class Cleaner(Protocol):
    """Runs the network for one sensor."""

    name: str

    def __call__(self, evidence: Evidence) -> Tensor:
        """Clean the planes of a window: float32 [K + 1, H, W], square roots of light; valid until the next call."""
        ...

    def another(self) -> Cleaner:
        """Make one that may run at the same time, in another thread; what is not written to is shared."""
        ...


class EagerCleaner:
    """The network itself; convolutions in the wanted precision, by torch's autocast."""

    name = "eager"

    def __init__(self, network: KeyPlaneNetwork, job: Job) -> None:
        """Put the network on its device.

        Raises:
            ConfigError: the precision is not there.
        """
        self._dtype = DTYPES[job.precision_of(self.name, tuple(DTYPES))]
        self._network, self._device = prepared(network, job), job.device
        self._padded = job.height, job.width

    @torch.no_grad()
    def __call__(self, evidence: Evidence) -> Tensor:
        """Clean the planes of a window."""
        inputs = called_up(evidence, self._padded)
        with convolving_in(self._dtype, self._device):
            planes: Tensor = self._network(*inputs)
        height, width = evidence.gains.shape[1:]
        return planes[0, :, :height, :width].float()

    def another(self) -> EagerCleaner:
        """Give this one: nothing of it is written to."""
        return self


def open_cleaner(name: str, network: KeyPlaneNetwork, job: Job) -> Cleaner:
    """Make an engine.

    Args:
        name: "eager" or "openvino".
        network: is the engine's from now on.
        job: what for.

    Raises:
        ConfigError: there is no such engine, or it has not the precision.
        EngineMissing: what it needs is not there; says what to install.
    """
    check_cleaner(name, job)
    if name == "eager":
        return EagerCleaner(network, job)
    module = importlib.import_module("nire.explicit.openvino")
    cleaner: Cleaner = module.OpenvinoCleaner(network, job)
    return cleaner


def check_cleaner(name: str, job: Job) -> str:
    """Tell which engine is taken, as far as that is known before one is made; errors are those of `open_cleaner`.

    Args:
        name: as for `open_cleaner`, or "auto": where several run, the first that `nire.explicit.choice` measures.
        job: what for.

    Returns:
        The engine's name.
    """
    if name == "auto":
        try:
            return check_cleaner("openvino", job)
        except (ConfigError, EngineError):
            return check_cleaner("eager", job)
    if name not in ENGINES:
        raise ConfigError(
            f"reconstructor.engine = {name!r}: this network is run by one of auto, {', '.join(ENGINES)}; other engines "
            "run the network of the paper"
        )
    if name == "eager":
        job.precision_of(name, tuple(DTYPES))
    else:
        importlib.import_module("nire.engines.kept_graph").check(job)
    return name
