"""How the network that remembers is run: by torch as it is written, or by OpenVINO on a CPU."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from nire.engines import DTYPES, Job
from nire.engines.kept_graph import check, kept_graph
from nire.engines.openvino import converted, options_for
from nire.errors import ConfigError, EngineError
from nire.recurrent.network import TOLD, Events, Layers, RecurrentNetwork, blended, folded

ENGINES = ("eager", "openvino")


class Runner(Protocol):
    """Runs the network for one sensor."""

    name: str

    def __call__(self, before: Tensor, events: Events, mind: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Go on by one window, b = 1: as `RecurrentNetwork.forward`; `mind` is empty where a stream begins."""
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
        placed = network.to(job.device).eval().requires_grad_(False)
        self._network: RecurrentNetwork = placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = job.device

    @torch.no_grad()
    def __call__(self, before: Tensor, events: Events, mind: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Go on by one window."""
        lower = self._dtype != torch.float32
        with torch.autocast(self._device.type, self._dtype if lower else torch.bfloat16, enabled=lower):
            return tuple(self._network(before, *events, *mind))


class OpenvinoRunner:
    """The layers as one graph; light is carried and blended by torch, in float32."""

    name = "openvino"
    has_threads = True

    def __init__(self, network: RecurrentNetwork, job: Job) -> None:
        """Convert and compile, or take what was kept.

        Raises:
            ConfigError: the precision is not there.
            EngineMissing: the job is for a GPU, or the package is not installed.
            EngineError: OpenVINO cannot convert the network.
        """
        options = options_for(check(job))
        network = network.float().eval().requires_grad_(False)
        layers = network.layers
        maps = torch.zeros((1, 5 * network.config.bins + 4, job.height // 2, job.width // 2))
        self._nothing = layers.nothing(maps)
        told = torch.zeros((1, TOLD))
        example = maps, told, *self._nothing
        graph = kept_graph(network, lambda: converted(_Said(layers), example), job, options=options)
        self._request = graph.create_infer_request()
        self._count = 1 + len(self._nothing)

    @torch.no_grad()
    def __call__(self, before: Tensor, events: Events, mind: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Go on by one window."""
        given = (folded(before, events), events.told, *(mind or self._nothing))
        self._request.infer([tensor.contiguous().numpy() for tensor in given])
        said, *kept = (torch.from_numpy(self._request.get_output_tensor(n).data) for n in range(self._count))
        return blended(before, events.change, said), *(tensor.clone() for tensor in kept)


class _Said(nn.Module):
    """What OpenVINO runs."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.layers(*given))


def open_runner(name: str, network: RecurrentNetwork, job: Job) -> Runner:
    """Make an engine.

    Args:
        name: "eager", "openvino", or "auto": OpenVINO where it is there.
        network: is the engine's from now on.
        job: what for.

    Raises:
        ConfigError: there is no such engine, or it has not the precision.
        EngineMissing: what it needs is not there; says what to install.
        EngineError: it cannot convert the network.
    """
    return EagerRunner(network, job) if check_runner(name, job) == "eager" else OpenvinoRunner(network, job)


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
    else:
        check(job)
    return name
