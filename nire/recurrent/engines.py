"""How the network that remembers is run: by torch as it is written, by OpenVINO on a CPU, or not at all."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from nire.engines import DTYPES, Job
from nire.engines.eager import convolving_in, prepared
from nire.errors import ConfigError, EngineError
from nire.recurrent.network import FORGOTTEN, GRAY, Events, RecurrentNetwork, carried, length_of

# The time in which events that are carried on are forgotten as by a network that has learned nothing in a window.
_FORGOTTEN_IN_US = 33_000
ENGINES = ("eager", "openvino", "physics")


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What a sensor told of one window, in K bins.

    Attributes:
        gains: float32 [K + 1, H, W], gain of the events at the bounds of the bins.
        counts: float32 [K + 1, H, W], events until then.
        numbers: float32 [1, 3], of `network.told`.
    """

    gains: Tensor
    counts: Tensor
    numbers: Tensor

    @property
    def length_us(self) -> float:
        """How long the window is."""
        return length_of(self.numbers)

    def events(self, padded: tuple[int, int]) -> Events:
        """Give the network its window of this height and width; beside the sensor there are no events."""
        height, width = self.gains.shape[1:]
        beside = 0, padded[1] - width, 0, padded[0] - height
        change, number = (functional.pad(values, beside)[None] for values in self.of_bins())
        return Events(change, number, self.numbers)

    def of_bins(self) -> tuple[Tensor, Tensor]:
        """Give the change of log light, and log(1 + events), of each bin: [K, H, W]."""
        change = (self.gains[1:] / self.gains[:-1]).log_()
        return change, self.counts.diff(dim=0).clamp_min_(0).log1p_()


class Runner(Protocol):
    """Runs the network for one sensor."""

    name: str

    def __call__(self, before: Tensor, told: Told, mind: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Go on by one window.

        Args:
            before: float32 [height, width] as padded, square root of light at its start.
            told: of its events.
            mind: what the call before gave; () where a stream begins.

        Returns:
            float32 [K, height, width], square roots of light at the ends of the bins, the caller's to keep; and what
            is kept in mind.
        """
        ...


class EagerRunner:
    """The network itself; convolutions in the wanted precision, by torch's autocast."""

    name = "eager"

    def __init__(self, network: RecurrentNetwork, job: Job) -> None:
        """Put the network on its device.

        Raises:
            ConfigError: the precision is not there.
        """
        self._dtype = DTYPES[job.precision_of(self.name, tuple(DTYPES))]
        self._network, self._device = prepared(network, job), job.device

    @torch.no_grad()
    def __call__(self, before: Tensor, told: Told, mind: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Go on by one window."""
        events = told.events((before.shape[0], before.shape[1]))
        with convolving_in(self._dtype, self._device):
            roots, *kept = self._network(before[None], *events, *mind)
        return roots[0], tuple(kept)


class PhysicsRunner:
    """No network: events carry light on, and it is slowly forgotten (the high-pass filter of Scheerlinck et al., 2018).

    It is what an untrained network says of windows of 33 ms; longer ones forget more, shorter ones less.
    """

    name = "physics"

    def __call__(self, before: Tensor, told: Told, mind: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Go on by one window."""
        change = told.events((before.shape[0], before.shape[1])).change
        kept = (1 - FORGOTTEN) ** (float(told.length_us) / _FORGOTTEN_IN_US)
        return carried(before[None], change)[0].mul_(kept).add_((1 - kept) * GRAY), ()


def open_runner(name: str, network: RecurrentNetwork, job: Job) -> Runner:
    """Make an engine.

    Args:
        name: "eager", "openvino", "physics", or "auto": OpenVINO where it is there, else "eager".
        network: is the engine's from now on.
        job: what for.

    Raises:
        ConfigError: there is no such engine, or it has not the precision.
        EngineMissing: what it needs is not there; says what to install.
        EngineError: it cannot convert the network.
    """
    chosen = check_runner(name, job)
    if chosen == "physics":
        return PhysicsRunner()
    if chosen == "eager":
        return EagerRunner(network, job)
    runner: Runner = importlib.import_module("nire.recurrent.openvino").OpenvinoRunner(network, job)
    return runner


def check_runner(name: str, job: Job) -> str:
    """Tell which engine is taken; arguments and errors as of `open_runner`, but for those of converting."""
    if name == "auto":
        try:
            return check_runner("openvino", job)
        except (ConfigError, EngineError):
            return check_runner("eager", job)
    if name not in ENGINES:
        raise ConfigError(
            f"reconstructor.engine = {name!r}: the network for events without frames is run by one of auto, "
            f"{', '.join(ENGINES)}; other engines run the network of the paper"
        )
    if name == "eager":
        job.precision_of(name, tuple(DTYPES))
    elif name == "openvino":
        importlib.import_module("nire.engines.kept_graph").check(job)
    return name
