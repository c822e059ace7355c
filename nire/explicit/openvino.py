"""OpenVINO runs the network of the explicit content on the CPU: one graph, converted once, and kept on disk."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nire.engines import Job
from nire.engines.kept_graph import check, kept_graph
from nire.engines.openvino import converted, options_for, package
from nire.explicit.evidence import Evidence
from nire.explicit.folding import Folding, compile_loops
from nire.explicit.network import KeyPlaneNetwork, Layers
from nire.threads import WINDOWS_AT_ONCE


class _Bounded(nn.Module):
    """Layers for one window, whose planes are a batch, and the hyperbolic tangent of what they say: `Folding.blend`."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = layers
        layers.stem, layers.enter = _even(layers.stem), _even(layers.enter)

    def forward(self, *maps: Tensor) -> Tensor:
        return torch.tanh(self.layers(*maps)[0])


def _even(convolution: nn.Conv2d) -> nn.Conv2d:
    """Have a convolution take an even number of channels: of one more it sees nothing."""
    wide = nn.Conv2d(convolution.in_channels + convolution.in_channels % 2, convolution.out_channels, 1)
    nn.init.zeros_(wide.weight).detach()[:, : convolution.in_channels] = convolution.weight
    wide.bias = convolution.bias
    return wide.requires_grad_(False)


class OpenvinoCleaner:
    """The layers as one graph; what leads to them and from them is done in one pass each (`Folding`)."""

    name = "openvino"
    has_threads = True

    def __init__(self, network: KeyPlaneNetwork, job: Job) -> None:
        """Convert and compile, or take what was kept.

        Raises:
            ConfigError, EngineMissing: as `check`.
            EngineError: OpenVINO cannot convert the network.
            EngineMismatch: the cache holds something else under this key.
        """
        precision = check(job)
        self._openvino = package("openvino")
        threads, bf16 = torch.get_num_threads(), precision == "bf16"
        # Else the first run would be as slow as compiling them, and nobody could tell it from a slow engine's.
        compile_loops(network.config, bf16=bf16)
        options = options_for(precision, at_once=WINDOWS_AT_ONCE)
        self._folding = Folding(network.config, (job.height, job.width), bf16=bf16, threads=threads)
        network = network.float().eval().requires_grad_(False)
        self._compiled = kept_graph(network, lambda: self._graph(network.layers), job, options=options)
        self._request = self._requested()

    def another(self) -> OpenvinoCleaner:
        """Make one that may run at the same time, by the same graph."""
        made = copy.copy(self)
        made._folding = self._folding.another()
        made._request = made._requested()
        return made

    def _requested(self) -> Any:
        request = self._compiled.create_infer_request()
        for index, maps in enumerate(self._maps):
            kind = self._openvino.Type.bf16 if maps.dtype == np.uint16 else self._openvino.Type.f32
            # Written by `fold`, read by the graph: nothing is copied.
            request.set_input_tensor(index, self._openvino.Tensor(maps, maps.shape, kind))
        return request

    @property
    def _maps(self) -> tuple[NDArray[Any], ...]:
        folding = self._folding
        return folding.body, folding.body_rows, folding.head, folding.head_rows

    def __call__(self, evidence: Evidence) -> Tensor:
        """Clean the planes of a window."""
        self._folding.fold(evidence)
        self._request.infer()
        return self._folding.blend(evidence, self._request.get_output_tensor(0).data)

    def _graph(self, layers: Layers) -> Any:
        """Convert the layers, and have them take and give maps as `Folding` has them."""
        example = tuple(torch.zeros(maps.shape).permute(0, 3, 1, 2) for maps in self._maps)
        steps = self._openvino.preprocess.PrePostProcessor(converted(_Bounded(layers), example))
        first, last = self._openvino.Layout("NCHW"), self._openvino.Layout("NHWC")
        for index, maps in enumerate(self._maps):
            steps.input(index).tensor().set_layout(last)
            steps.input(index).model().set_layout(first)
            if maps.dtype == np.uint16:
                steps.input(index).tensor().set_element_type(self._openvino.Type.bf16)
        steps.output(0).tensor().set_layout(last)
        steps.output(0).model().set_layout(first)
        return steps.build()
