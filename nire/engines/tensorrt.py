"""TensorRT runs the network on an NVIDIA GPU: compiled ahead for each shape, and kept on disk.

Not run yet, neither on a GPU nor with TensorRT: written against the documentation of torch-tensorrt, and tested only
over a stub of it. As with OpenVINO, the physics of `expose` stays in torch.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nire.engines import DTYPES, Job
from nire.engines.cache import Cache, key_of
from nire.engines.graphs import BuildGraph, CorrectGraph, build_example, export, expose_example, flat
from nire.engines.programs import BuildProgram, ExposeProgram, ProgramEngine
from nire.errors import EngineMissing
from nire.network.reexposure import ReExposureNetwork

_log = logging.getLogger(__name__)


def create(network: ReExposureNetwork, job: Job) -> ProgramEngine:
    """Make the engine; what is not in the cache is compiled, which takes minutes.

    Args:
        network: is the engine's from now on.
        job: what for.

    Raises:
        ConfigError: the precision is not there.
        EngineMismatch: the cache holds something else under this key.
        EngineMissing: the device is no GPU, or torch-tensorrt is not installed.
    """
    check(network, job)
    precision = job.precision_of("tensorrt", tuple(DTYPES))
    package = _package()
    network = network.to(job.device, torch.float32).eval().requires_grad_(False)
    machine = f"{torch.cuda.get_device_name(job.device)} {torch.cuda.get_device_capability(job.device)}"
    return ProgramEngine("tensorrt", network, job, maker=Maker(network, job, precision, package=package, gpu=machine))


def check(network: ReExposureNetwork, job: Job) -> None:
    """Refuse what cannot run here, before anything is made; arguments and errors are those of `create`."""
    del network
    job.precision_of("tensorrt", tuple(DTYPES))
    if job.device.type != "cuda":
        raise EngineMissing(
            f"the engine 'tensorrt' needs an NVIDIA GPU and a CUDA build of torch; the device is {job.device}, torch "
            f"{torch.__version__} finds {torch.cuda.device_count()} GPUs. Use reconstructor.engine = 'auto'"
        )
    _package()


class Maker:
    """Compiles by torch-tensorrt's dynamo path, and keeps what was compiled."""

    def __init__(self, network: ReExposureNetwork, job: Job, precision: str, *, package: Any, gpu: str) -> None:
        """Find the cache.

        Args:
            network: on its device, float32.
            job: what for.
            precision: "fp32", "bf16" or "fp16".
            package: torch_tensorrt.
            gpu: name and compute capability: TensorRT's engines run on the GPU that they were made on.
        """
        self._network, self._job, self._package = network, job, package
        self._dtype = DTYPES[precision]
        self._cache = Cache(
            job.cache / "tensorrt",
            key_of(
                network,
                height=job.height,
                width=job.width,
                precision=precision,
                gpu=gpu,
                torch_tensorrt=package.__version__,
                torch=torch.__version__,
            ),
        )

    def build(self, frames: int) -> BuildProgram:
        """Make the program that builds windows of so many frames."""
        graph = BuildGraph(self._network, frames)
        example = graph.taken(*build_example(self._network, frames, self._job.height, self._job.width))
        call = self._compiled(f"build-{frames}", graph, example)
        return lambda *tensors: call(*(tensor.float().contiguous() for tensor in graph.taken(*tensors)))

    def expose(self, frames: int, queries: int, *, per_pixel: bool) -> ExposeProgram:
        """Make the program that exposes so many films."""
        size = (self._job.height, self._job.width)
        shutters, re_exposed = expose_example(self._network, frames, queries, size=size, per_pixel=per_pixel)
        content = flat(self._network.build(*build_example(self._network, frames, *size)))
        example = (shutters, self._network.slots(re_exposed).planes.contiguous(), *content)
        name = f"expose-{frames}-{queries}" + ("-pixels" if per_pixel else "")
        call = self._compiled(name, CorrectGraph(self._network), example)

        def program(built: Any, shutters: Tensor, re_exposed: Tensor) -> Tensor:
            slots = self._network.slots(re_exposed)
            outputs = call(shutters.float().contiguous(), slots.planes.contiguous(), *built)
            outputs = outputs if isinstance(outputs, Tensor) else outputs[0]
            return self._network.develop(outputs.float(), slots).unflatten(0, (1, queries))

        return program

    def _compiled(self, name: str, graph: nn.Module, example: tuple[Tensor, ...]) -> Callable[..., Any]:
        kept = self._cache.path(f"{name}.ep")
        if kept is None:
            started = time.perf_counter()
            kept = self._cache.put(f"{name}.ep", self._made(graph, example))
            _log.info("tensorrt: made %s in %.0f s, kept as %s", name, time.perf_counter() - started, kept)
        call: Callable[..., Any] = self._package.load(str(kept)).module()
        return call

    def _made(self, graph: nn.Module, example: tuple[Tensor, ...]) -> bytes:
        inputs = [tensor.contiguous() for tensor in example]
        compiled = self._package.dynamo.compile(
            export(graph, tuple(inputs)), inputs=inputs, enabled_precisions={torch.float32, self._dtype}
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "engine.ep"
            self._package.save(compiled, str(path), output_format="exported_program", inputs=inputs)
            return path.read_bytes()


def _package() -> Any:
    try:
        return importlib.import_module("torch_tensorrt")
    except ImportError as error:
        raise EngineMissing(
            f"the engine 'tensorrt' needs torch-tensorrt and TensorRT's libraries, which are not here ({error}): pip "
            f"install torch-tensorrt, in the version made for torch {torch.__version__}"
        ) from error
