"""Programs of fixed shapes: what all engines that prepare their work share.

A program serves one number of frames and, to expose, one number of queries and one kind of shutter. Whatever is asked
is cut into batches of the sizes there are, and a batch that is not full is filled up: no number of queries ever makes
a new program.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from nire.engines import Job
from nire.errors import EngineError
from nire.network.reexposure import ReExposureNetwork

_log = logging.getLogger(__name__)

BuildProgram = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Any]
"""`build` for one N; what it returns is its engine's, and valid until its next call."""
ExposeProgram = Callable[[Any, Tensor, Tensor], Tensor]
"""`expose` for one N and Q: content of the `BuildProgram`, shutters, re-exposures to float32 [1, Q, 1, H, W], valid
until its next call."""


class Maker(Protocol):
    """Makes programs, each once."""

    def build(self, frames: int) -> BuildProgram:
        """Make the program that builds windows of so many frames."""
        ...

    def expose(self, frames: int, queries: int, *, per_pixel: bool) -> ExposeProgram:
        """Make the program that exposes so many films; its `build` was made before.

        Args:
            frames: N.
            queries: Q.
            per_pixel: shutters are [1, Q, H, W, 2], not [1, Q, H, 2].
        """
        ...


class ProgramContent(NamedTuple):
    """What `ProgramEngine.build` returns.

    Attributes:
        ranges: shape of the window's `image_ranges`.
        made: by the program.
    """

    ranges: torch.Size
    made: Any


class ProgramEngine:
    """An engine made of programs."""

    def __init__(
        self, name: str, network: ReExposureNetwork, job: Job, *, maker: Maker, sizes: Sequence[int] = (1, 2, 4, 8)
    ) -> None:
        """Prepare what the job foresees.

        Args:
            name: of the engine.
            network: checks shapes.
            job: what for.
            maker: makes the programs.
            sizes: numbers of queries that programs are made for, ascending from 1.
        """
        self.name = name
        self.sizes = tuple(sizes)
        self.out_of_memory = 0
        """How often a batch did not fit into the GPU's memory, and smaller ones were taken from then on."""
        self._network = network
        self._job = job
        self._maker = maker
        self._builds: dict[int, BuildProgram] = {}
        self._exposes: dict[tuple[int, int, bool], ExposeProgram] = {}
        for frames in job.frames:
            self._build_program(frames)
            for size in self.sizes:
                self._expose_program(frames, size, per_pixel=False)

    @torch.inference_mode()
    def build(
        self, images: Tensor, voxels: Tensor, image_ranges: Tensor, segment_ranges: Tensor, observed: Tensor
    ) -> ProgramContent:
        """Build the content of a window, as `ReExposureNetwork.build` with b = 1; valid until the next build.

        Raises:
            ValueError: a shape does not fit; says which.
        """
        self._network.check_build(images, voxels, image_ranges, segment_ranges, observed)
        expected = (1, images.shape[1], 1, self._job.height, self._job.width)
        if images.shape != expected:
            raise ValueError(f"images are {list(images.shape)}; this engine was made for {list(expected)}")
        program = self._build_program(images.shape[1])
        return ProgramContent(image_ranges.shape, program(images, voxels, image_ranges, segment_ranges, observed))

    @torch.inference_mode()
    def expose(self, content: ProgramContent, shutters: Tensor, re_exposed: Tensor) -> Tensor:
        """Expose Q films, as `ReExposureNetwork.expose` with b = 1.

        Raises:
            EngineError: not even a single film fits into the GPU's memory.
            ValueError: a shape does not fit; says which.
        """
        self._network.check_expose(content.ranges, shutters, re_exposed)
        if re_exposed.shape[-1] != self._job.width:
            raise ValueError(f"re_exposed are {re_exposed.shape[-1]} wide; this engine was made for {self._job.width}")
        count, start = shutters.shape[1], 0
        images = shutters.new_empty((1, count, 1, self._job.height, self._job.width))
        while start < count:
            size = batch_size(count - start, self.sizes)
            stop = min(start + size, count)
            batch = _filled(shutters[:, start:stop], size), _filled(re_exposed[:, start:stop], size)
            try:
                program = self._expose_program(content.ranges[1], size, per_pixel=shutters.ndim == 5)
                images[:, start:stop] = program(content.made, *batch)[:, : stop - start]
            except torch.OutOfMemoryError as problem:
                self._shrink(size, problem)
                continue
            start = stop
        return images

    def _shrink(self, size: int, problem: torch.OutOfMemoryError) -> None:
        """Do without batches of `size` and more."""
        if size == self.sizes[0]:
            raise EngineError(
                f"the engine {self.name!r} has not enough GPU memory for one film of {self._job.width} x "
                f"{self._job.height} ({problem}). Use a smaller reconstructor.size, or free GPU memory"
            ) from problem
        self.out_of_memory += 1
        self.sizes = tuple(smaller for smaller in self.sizes if smaller < size)
        self._exposes = {key: program for key, program in self._exposes.items() if key[1] < size}
        torch.cuda.empty_cache()
        _log.warning("%d films do not fit into the GPU's memory together; from now on at most %d", size, self.sizes[-1])

    def _build_program(self, frames: int) -> BuildProgram:
        if frames not in self._builds:
            # Whatever mode the caller is in: tensors that are made in inference mode are of another kind.
            with torch.inference_mode(False), torch.no_grad():
                self._builds[frames] = self._maker.build(frames)
        return self._builds[frames]

    def _expose_program(self, frames: int, queries: int, *, per_pixel: bool) -> ExposeProgram:
        key = (frames, queries, per_pixel)
        if key not in self._exposes:
            with torch.inference_mode(False), torch.no_grad():
                self._exposes[key] = self._maker.expose(frames, queries, per_pixel=per_pixel)
        return self._exposes[key]


def batch_size(queries: int, sizes: Sequence[int]) -> int:
    """Choose the size of the next batch: one that the queries fill to three quarters, or the largest that they fill.

    Args:
        queries: that are left, at least 1.
        sizes: ascending from 1.
    """
    return max(size for size in sizes if 4 * queries >= 3 * size)


def _filled(part: Tensor, size: int) -> Tensor:
    """Fill [1, q, ...] up to [1, size, ...] with copies of the last query."""
    missing = size - part.shape[1]
    if not missing:
        return part
    return torch.cat((part, part[:, -1:].expand(-1, missing, *part.shape[2:])), dim=1)
