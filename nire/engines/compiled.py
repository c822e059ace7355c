"""torch.compile: the network as fused kernels, written for each shape by a compiler.

Starting takes minutes on a CPU, where a C++ compiler makes every kernel; torch keeps them on disk, and a second start
takes less. So `auto` does not choose this engine.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch._inductor.config as inductor
from torch import Tensor

from nire.engines import DTYPES, Job
from nire.engines.eager import prepared
from nire.engines.graphs import build_example, expose_example
from nire.engines.programs import BuildProgram, ExposeProgram, ProgramEngine
from nire.errors import EngineMissing
from nire.network.reexposure import ReExposureNetwork

# A program for each number of frames, of queries, and kind of shutter; at torch's own limit, 8, it stops compiling.
_PROGRAMS = 64
_SIZES = {"cpu": (1, 4), "cuda": (1, 2, 4, 8)}


def create(network: ReExposureNetwork, job: Job) -> ProgramEngine:
    """Make the engine and compile what the job foresees.

    Args:
        network: is the engine's from now on.
        job: what for.

    Raises:
        ConfigError: the precision is not there.
        EngineMissing: there is no C++ compiler.
    """
    check(network, job)
    dtype = DTYPES[job.precision_of("compiled", tuple(DTYPES))]
    maker = Maker(prepared(network, job, dtype), job)
    return ProgramEngine("compiled", network, job, maker=maker, sizes=_SIZES[job.device.type])


def check(network: ReExposureNetwork, job: Job) -> None:
    """Refuse what cannot run here, before anything is made; arguments and errors are those of `create`."""
    del network
    job.precision_of("compiled", tuple(DTYPES))
    if job.device.type == "cpu" and not any(shutil.which(compiler) for compiler in ("g++", "clang++")):
        raise EngineMissing(
            "the engine 'compiled' needs a C++ compiler on a CPU, and neither g++ nor clang++ is on the PATH: "
            "sudo apt-get install g++, or use reconstructor.engine = 'eager'"
        )


class Maker:
    """Lets torch.compile make the programs."""

    def __init__(self, network: ReExposureNetwork, job: Job, backend: str = "inductor") -> None:
        """Make nothing yet.

        Args:
            network: as it is to run.
            job: what for.
            backend: of torch.compile.
        """
        self._network, self._job, self._backend = network, job, backend
        self._contents: dict[int, Any] = {}

    def build(self, frames: int) -> BuildProgram:
        """Compile `build` for windows of so many frames."""
        call = self._compiled(self._network.build)
        held = build_example(self._network, frames, self._job.height, self._job.width)
        self._contents[frames] = _first(call, held)

        def program(*tensors: Tensor) -> Any:
            return _again(call, _hold(held, tensors))

        return program

    def expose(self, frames: int, queries: int, *, per_pixel: bool) -> ExposeProgram:
        """Compile `expose` for so many films."""
        call = self._compiled(self._network.expose)
        size = (self._job.height, self._job.width)
        held = expose_example(self._network, frames, queries, size=size, per_pixel=per_pixel)
        _first(call, (self._contents[frames], *held))

        def program(built: Any, *tensors: Tensor) -> Tensor:
            images: Tensor = _again(call, (built, *_hold(held, tensors)))
            return images

        return program

    def _compiled(self, call: Callable[..., Any]) -> Callable[..., Any]:
        compiled: Callable[..., Any] = torch.compile(call, dynamic=False, fullgraph=True, backend=self._backend)
        return compiled


def _first(call: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """Compile a call for these shapes.

    Frozen weights are laid out for the kernels once, instead of in every call. As an option of torch.compile that
    comes too late: weights are inputs of the graph by then.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what it will change in itself
        with torch._dynamo.config.patch(recompile_limit=_PROGRAMS), inductor.patch(freezing=True):
            return _again(call, inputs)


def _again(call: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    # The mode is part of what a program was compiled for, and callers have their own.
    with torch.inference_mode(False), torch.no_grad():
        return call(*inputs)


def _hold(held: tuple[Tensor, ...], tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Copy inputs to where the program was compiled for: strides and kind of a tensor are part of that, too."""
    for place, tensor in zip(held, tensors, strict=True):
        place.copy_(tensor)
    return held
