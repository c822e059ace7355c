"""CUDA graphs: every kernel of a call is recorded once and launched as one.

Not run on a GPU yet: written against torch's documentation, and tested only as far as no GPU is needed.

Recorded kernels read and write fixed memory. Inputs are copied there on a stream of their own, out of pinned memory
where they come from the host, once the replay before has read what was there. An output is copied, in the order of the
main stream, into memory of torch's pool: the next replay cannot overwrite what a caller still reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nire.engines import DTYPES, Job
from nire.engines.eager import prepared
from nire.engines.graphs import build_example, expose_example
from nire.engines.programs import BuildProgram, ExposeProgram, ProgramEngine
from nire.errors import EngineMissing
from nire.network.reexposure import NeuralContent, ReExposureNetwork

# Before recording, libraries choose their kernels and allocate what they keep.
_WARM_UP = 3


def create(network: ReExposureNetwork, job: Job) -> ProgramEngine:
    """Make the engine and record what the job foresees.

    Args:
        network: is the engine's from now on.
        job: what for.

    Raises:
        ConfigError: the precision is not there.
        EngineMissing: the device is no GPU.
    """
    check(network, job)
    dtype = DTYPES[job.precision_of("cudagraph", tuple(DTYPES))]
    return ProgramEngine("cudagraph", network, job, maker=_Maker(prepared(network, job, dtype), job))


def check(network: ReExposureNetwork, job: Job) -> None:
    """Refuse what cannot run here, before anything is made; arguments and errors are those of `create`."""
    del network
    job.precision_of("cudagraph", tuple(DTYPES))
    if job.device.type != "cuda":
        raise EngineMissing(
            f"the engine 'cudagraph' needs an NVIDIA GPU and a CUDA build of torch; the device is {job.device}, torch "
            f"{torch.__version__} finds {torch.cuda.device_count()} GPUs. Use reconstructor.engine = 'auto'"
        )


class _Maker:
    def __init__(self, network: ReExposureNetwork, job: Job) -> None:
        self._network, self._job = network, job
        self._contents: dict[int, NeuralContent] = {}

    def build(self, frames: int) -> BuildProgram:
        held = build_example(self._network, frames, self._job.height, self._job.width)
        recorded = _Recorded(self._network.build, held, self._job.device)
        self._contents[frames] = recorded.output
        return recorded.replay

    def expose(self, frames: int, queries: int, *, per_pixel: bool) -> ExposeProgram:
        size = (self._job.height, self._job.width)
        held = expose_example(self._network, frames, queries, size=size, per_pixel=per_pixel)
        content = self._contents[frames]
        recorded = _Recorded(lambda *asked: self._network.expose(content, *asked), held, self._job.device)

        def program(built: Any, *tensors: Tensor) -> Tensor:
            del built  # it is where the recording reads it
            images: Tensor = recorded.replay(*tensors)
            return images

        return program


class _Recorded:
    """One call, recorded.

    Attributes:
        output: what the call returns, in the memory that every replay writes.
    """

    def __init__(self, call: Callable[..., Any], held: tuple[Tensor, ...], device: torch.device) -> None:
        """Warm up and record.

        Args:
            call: of fixed shapes; its values decide nothing.
            held: its inputs, whose memory every replay reads.
            device: a GPU.
        """
        self._held = held
        self._staged = tuple(torch.empty(tensor.shape, pin_memory=True) for tensor in held)
        self._device = device
        self._copies = torch.cuda.Stream(device)
        self._arrived, self._read = torch.cuda.Event(), torch.cuda.Event()
        with torch.cuda.device(device):
            self._copies.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._copies):
                for _ in range(_WARM_UP):
                    call(*held)
            torch.cuda.current_stream().wait_stream(self._copies)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self.output = call(*held)
            self._read.record()

    def replay(self, *tensors: Tensor) -> Any:
        """Run the recorded kernels on these inputs: `output`, complete in the order of the current stream."""
        with torch.cuda.device(self._device):
            main = torch.cuda.current_stream()
            self._copies.wait_stream(main)  # whoever makes the inputs has finished
            self._copies.wait_event(self._read)
            self._arrived.synchronize()  # pinned memory may still be on its way from the call before
            with torch.cuda.stream(self._copies):
                for place, staged, tensor in zip(self._held, self._staged, tensors, strict=True):
                    if tensor.device.type == "cpu":
                        tensor = staged.copy_(tensor)
                    else:
                        tensor.record_stream(self._copies)
                    place.copy_(tensor, non_blocking=True)
                self._arrived.record(self._copies)
            main.wait_event(self._arrived)
            self._graph.replay()
            self._read.record(main)
        return self.output
