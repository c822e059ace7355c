"""OpenVINO runs the network of the explicit content on the CPU: one graph, converted once, and kept on disk."""

from __future__ import annotations

import copy
import logging
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nire.engines import Job
from nire.engines.cache import Cache, key_of
from nire.engines.openvino import converted, options_for, package
from nire.errors import EngineMissing
from nire.explicit.evidence import Evidence
from nire.explicit.folding import Folding, compile_loops
from nire.explicit.network import KeyPlaneNetwork, Layers
from nire.threads import WINDOWS_AT_ONCE

_log = logging.getLogger(__name__)
_PRECISIONS = ("fp32", "bf16")


def check(job: Job) -> str:
    """Refuse what cannot run here, before anything is made.

    Returns:
        The precision.

    Raises:
        ConfigError: the precision is not there.
        EngineMissing: the job is for a GPU, or the package is not installed.
    """
    precision = job.precision_of("openvino", _PRECISIONS)
    if job.device.type != "cpu":
        raise EngineMissing(f"the engine 'openvino' runs on CPUs, the device is {job.device}; set device = 'cpu'")
    package("openvino")
    return precision


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
        self._compiled = self._made(network.float().eval().requires_grad_(False), job, options)
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

    def _made(self, network: KeyPlaneNetwork, job: Job, options: dict[str, Any]) -> Any:
        core = self._openvino.Core()
        key = key_of(
            network,
            height=job.height,
            width=job.width,
            options=sorted(options.items()),
            processor=core.get_property("CPU", "FULL_DEVICE_NAME"),
            openvino=self._openvino.get_version(),
            torch=torch.__version__,
        )
        cache = Cache(job.cache / "openvino", key)
        kept = cache.path("planes.blob")
        if kept is not None:
            try:
                return core.import_model(kept.read_bytes(), "CPU", options)
            except RuntimeError as problem:
                _log.warning("%s cannot be used (%s) and is made anew", kept, problem)
        started = time.perf_counter()
        compiled = core.compile_model(self._graph(network.layers), "CPU", options)
        _log.info("openvino: made the network's graph in %.1f s", time.perf_counter() - started)
        try:
            cache.put("planes.blob", compiled.export_model().getvalue())
        except OSError as problem:
            _log.warning("openvino: the graph cannot be kept (%s) and is made again at the next start", problem)
        return compiled
