"""One graph of OpenVINO, compiled for the CPU once and kept on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch

from nire.engines import Job
from nire.engines.cache import Cache, key_of
from nire.engines.openvino import package
from nire.errors import EngineMissing
from nire.network.weights import Network

_log = logging.getLogger(__name__)
PRECISIONS = ("fp32", "bf16")
"""What such a graph can compute in."""


def check(job: Job) -> str:
    """Refuse what cannot run here, before anything is made.

    Returns:
        The precision.

    Raises:
        ConfigError: the precision is not there.
        EngineMissing: the job is for a GPU, or the package is not installed.
    """
    precision = job.precision_of("openvino", PRECISIONS)
    if job.device.type != "cpu":
        raise EngineMissing(f"the engine 'openvino' runs on CPUs, the device is {job.device}; set device = 'cpu'")
    package("openvino")
    return precision


def kept_graph(
    network: Network, make: Callable[[], Any], job: Job, *, options: dict[str, Any], of: str = "planes"
) -> Any:
    """Compile a graph, or take what was kept of it.

    Args:
        network: that it is of; its config and weights are part of what the graph is kept under.
        make: makes OpenVINO's model, where nothing was kept.
        job: what for.
        options: of the compiled graph.
        of: names the file.

    Returns:
        OpenVINO's compiled model.

    Raises:
        EngineError: OpenVINO cannot convert the network.
        EngineMismatch: the cache holds something else under this key.
    """
    openvino = package("openvino")
    core = openvino.Core()
    key = key_of(
        network,
        height=job.height,
        width=job.width,
        options=sorted(options.items()),
        processor=core.get_property("CPU", "FULL_DEVICE_NAME"),
        openvino=openvino.get_version(),
        torch=torch.__version__,
    )
    cache = Cache(job.cache / "openvino", key)
    kept = cache.path(f"{of}.blob")
    if kept is not None:
        try:
            return core.import_model(kept.read_bytes(), "CPU", options)
        except RuntimeError as problem:
            _log.warning("%s cannot be used (%s) and is made anew", kept, problem)
    started = time.perf_counter()
    compiled = core.compile_model(make(), "CPU", options)
    _log.info("openvino: made the network's graph in %.1f s", time.perf_counter() - started)
    try:
        cache.put(f"{of}.blob", compiled.export_model().getvalue())
    except OSError as problem:
        _log.warning("openvino: the graph cannot be kept (%s) and is made again at the next start", problem)
    return compiled
