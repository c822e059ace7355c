"""OpenVINO runs the network that remembers on the CPU: the layers as one graph, converted once, and kept on disk."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from nire.engines import Job
from nire.engines.kept_graph import check, kept_graph
from nire.engines.openvino import converted, options_for
from nire.integral.double_integral import DARK_LEVEL
from nire.light import BRIGHTEST
from nire.recurrent import loops
from nire.recurrent.engines import Told
from nire.recurrent.network import GRAY, TOLD, Layers, RecurrentNetwork
from nire.threads import bands, side_by_side


class OpenvinoRunner:
    """The layers as one graph; what leads to them and from them is done in one pass each, in float32 (`loops`)."""

    name = "openvino"

    def __init__(self, network: RecurrentNetwork, job: Job) -> None:
        """Convert and compile, or take what was kept.

        Raises:
            ConfigError: the precision is not there.
            EngineMissing: the job is for a GPU, or the package is not installed.
            EngineError: OpenVINO cannot convert the network.
        """
        options = options_for(check(job))
        network = network.float().eval().requires_grad_(False)
        layers, height, width = network.layers, job.height // 2, job.width // 2
        self._bins = network.config.bins
        self._maps = torch.zeros((1, 5 * self._bins + 4, height, width))
        self._nothing = layers.nothing(self._maps)
        example = self._maps, torch.zeros((1, TOLD)), *self._nothing
        graph = kept_graph(network, lambda: converted(_Bounded(layers), example), job, options=options)
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
