"""OpenVINO runs the network of the explicit content on the CPU: one graph, converted once, and kept on disk."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from torch import Tensor

from nire.engines import Job
from nire.engines.cache import Cache, key_of
from nire.engines.openvino import converted, options_for, package
from nire.errors import EngineMissing
from nire.explicit.engines import example
from nire.explicit.network import Inputs, KeyPlaneNetwork

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


class OpenvinoCleaner:
    """The network as one graph."""

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
        self._request = self._made(network.float().eval().requires_grad_(False), job, options_for(precision))

    def __call__(self, inputs: Inputs) -> Tensor:
        """Clean the planes of a window."""
        # They are read where they are, so they are held until it is done.
        arrays = [tensor.detach().float().contiguous().numpy() for tensor in inputs]
        for index, array in enumerate(arrays):
            self._request.set_input_tensor(index, self._openvino.Tensor(array, shared_memory=True))
        self._request.infer()
        return torch.from_numpy(self._request.get_output_tensor(0).data)

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
                return core.import_model(kept.read_bytes(), "CPU", options).create_infer_request()
            except RuntimeError as problem:
                _log.warning("%s cannot be used (%s) and is made anew", kept, problem)
        started = time.perf_counter()
        compiled = core.compile_model(converted(network, tuple(example(network, job))), "CPU", options)
        _log.info("openvino: made the network's graph in %.1f s", time.perf_counter() - started)
        try:
            cache.put("planes.blob", compiled.export_model().getvalue())
        except OSError as problem:
            _log.warning("openvino: the graph cannot be kept (%s) and is made again at the next start", problem)
        return compiled.create_infer_request()
