"""How the network that remembers is run: by torch as it is written, by OpenVINO on a CPU, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nire.engines import DTYPES, Job, kept_graph
from nire.engines.openvino import converted, options_for
from nire.errors import ConfigError, EngineError
from nire.integral.double_integral import DARK_LEVEL
from nire.light import BRIGHTEST
from nire.recurrent import loops
from nire.recurrent.network import FORGOTTEN, GRAY, TOLD, Events, Layers, RecurrentNetwork, carried
from nire.threads import bands, side_by_side

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
        placed = network.to(job.device).eval().requires_grad_(False)
        self._network: RecurrentNetwork = placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = job.device

    @torch.no_grad()
    def __call__(self, before: Tensor, told: Told, mind: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Go on by one window."""
        lower = self._dtype != torch.float32
        events = told.events((before.shape[0], before.shape[1]))
        with torch.autocast(self._device.type, self._dtype if lower else torch.bfloat16, enabled=lower):
            roots, *kept = self._network(before[None], *events, *mind)
        return roots[0], tuple(kept)


class PhysicsRunner:
    """No network: events carry light on, and it is slowly forgotten (the high-pass filter of Scheerlinck et al., 2018).

    It is what an untrained network says.
    """

    name = "physics"

    def __call__(self, before: Tensor, told: Told, mind: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Go on by one window."""
        change = told.events((before.shape[0], before.shape[1])).change
        return carried(before[None], change)[0].mul_(1 - FORGOTTEN).add_(FORGOTTEN * GRAY), ()


class OpenvinoRunner:
    """The layers as one graph; what leads to them and from them is done in one pass each, in float32 (`loops`)."""

    name = "openvino"
    has_threads = True

    def __init__(self, network: RecurrentNetwork, job: Job) -> None:
        """Convert and compile, or take what was kept.

        Raises:
            ConfigError: the precision is not there.
            EngineMissing: the job is for a GPU, or the package is not installed.
            EngineError: OpenVINO cannot convert the network.
        """
        options = options_for(kept_graph.check(job))
        network = network.float().eval().requires_grad_(False)
        layers, height, width = network.layers, job.height // 2, job.width // 2
        self._bins = network.config.bins
        self._maps = torch.zeros((1, 5 * self._bins + 4, height, width))
        self._nothing = layers.nothing(self._maps)
        example = self._maps, torch.zeros((1, TOLD)), *self._nothing
        graph = kept_graph.kept_graph(network, lambda: converted(_Bounded(layers), example), job, options=options)
        self._request = graph.create_infer_request()
        self._bands = bands(height, torch.get_num_threads())

    def __call__(self, before: Tensor, told: Told, mind: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Go on by one window."""
        change, number = (values.numpy() for values in told.of_bins())
        maps, root, gains = self._maps[0].numpy(), before.numpy(), told.gains.numpy()
        gray, numbers = np.float32(GRAY), (np.float32(DARK_LEVEL / 255), np.float32(BRIGHTEST**2))
        self._in_bands(lambda rows: loops.fold(maps, root, change, number, rows, gray))
        self._request.infer([part.numpy() for part in (self._maps, told.numbers, *(mind or self._nothing))])
        said, *kept = (self._request.get_output_tensor(n).data for n in range(1 + len(self._nothing)))
        roots = torch.empty((self._bins, *before.shape))
        self._in_bands(lambda rows: loops.blend(roots.numpy(), said[0], root, gains, rows, numbers))
        return roots, tuple(torch.from_numpy(part.copy()) for part in kept)

    def _in_bands(self, work: Callable[[tuple[int, int]], None]) -> None:
        side_by_side(work, self._bands, len(self._bands))


class _Bounded(nn.Module):
    """What OpenVINO runs: what the layers say, as shares."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        said, *kept = self.layers(*given)
        return torch.sigmoid(said), *kept


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
    return EagerRunner(network, job) if chosen == "eager" else OpenvinoRunner(network, job)


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
        kept_graph.check(job)
    return name
