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

BuildProgram = Callable[..., Any]
"""`build` for one N (of a `PartMaker`: `construct`); what it returns is its engine's, and valid until its next call."""
EncodeProgram = Callable[..., Any]
"""`encode_images` for one frame, or `encode_segments` for one segment; what it returns is valid while it is held."""
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


class PartMaker(Maker, Protocol):
    """Makes programs for the parts of a build; its `build` is given lists of what the others return, and the ranges."""

    def encode_images(self) -> EncodeProgram:
        """Make the program that encodes one frame."""
        ...

    def encode_segments(self) -> EncodeProgram:
        """Make the program that encodes one segment."""
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
        self,
        name: str,
        network: ReExposureNetwork,
        job: Job,
        *,
        maker: Maker,
        sizes: Sequence[int] = (1, 2, 4, 8),
        has_threads: bool = False,
    ) -> None:
        """Prepare what the job foresees.

        Args:
            name: of the engine.
            network: checks shapes.
            job: what for.
            maker: makes the programs.
            sizes: numbers of queries that programs are made for, ascending from 1.
            has_threads: it computes on the CPU in threads of its own, not in torch's.
        """
        self.name = name
        self.sizes = tuple(sizes)
        self.out_of_memory = 0
        """How often a batch did not fit into the GPU's memory, and smaller ones were taken from then on."""
        self.has_threads = has_threads
        """Whether it computes on the CPU in threads of its own, not in torch's."""
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
        self._check_build(images, voxels, image_ranges, segment_ranges, observed)
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

    def _check_build(self, images: Tensor, *others: Tensor) -> None:
        self._network.check_build(images, *others)
        self._expect("images", images, (1, images.shape[1], 1, self._job.height, self._job.width))

    def _expect(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if tensor.shape != shape:
            raise ValueError(f"{name} are {list(tensor.shape)}; this engine was made for {list(shape)}")

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


class PartProgramEngine(ProgramEngine):
    """An engine made of programs that builds in parts: a whole build is all of them, one after the other."""

    def __init__(
        self,
        name: str,
        network: ReExposureNetwork,
        job: Job,
        *,
        maker: PartMaker,
        sizes: Sequence[int] = (1, 2, 4, 8),
        has_threads: bool = False,
    ) -> None:
        """Prepare what the job foresees; arguments as those of `ProgramEngine`."""
        with torch.inference_mode(False), torch.no_grad():
            self._encode_image, self._encode_segment = maker.encode_images(), maker.encode_segments()
        super().__init__(name, network, job, maker=maker, sizes=sizes, has_threads=has_threads)

    @torch.inference_mode()
    def build(
        self, images: Tensor, voxels: Tensor, image_ranges: Tensor, segment_ranges: Tensor, observed: Tensor
    ) -> ProgramContent:
        """Build the content of a window, as `ReExposureNetwork.build` with b = 1; valid until the next one.

        Raises:
            ValueError: a shape does not fit; says which.
        """
        self._check_build(images, voxels, image_ranges, segment_ranges, observed)
        encoded = [self.encode_images(images)] if images.shape[1] else []
        return self.construct([self.encode_segments(voxels, observed)], encoded, image_ranges, segment_ranges)

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> list[Any]:
        """Encode frames one by one, as `ReExposureNetwork.encode_images` with b = 1.

        Args:
            images: [1, N, 1, H, W], any N >= 1.

        Returns:
            What the program made, per frame; valid for as long as it is held.

        Raises:
            ValueError: a shape does not fit; says which.
        """
        self._expect("images", images, (1, images.shape[1], 1, self._job.height, self._job.width))
        return [self._encode_image(image) for image in images.split(1, dim=1)]

    @torch.inference_mode()
    def encode_segments(self, voxels: Tensor, observed: Tensor) -> list[Any]:
        """Encode segments one by one, as `ReExposureNetwork.encode_segments` with b = 1.

        Args:
            voxels: [1, m, B, H, W], any m >= 1.
            observed: [1, m, B].

        Returns:
            What the program made, per segment; valid for as long as it is held.

        Raises:
            ValueError: a shape does not fit; says which.
        """
        count, bins = voxels.shape[1], self._network.config.bins
        self._expect("voxels", voxels, (1, count, bins, self._job.height, self._job.width))
        self._expect("observed", observed, (1, count, bins))
        return [self._encode_segment(*cut) for cut in zip(voxels.split(1, 1), observed.split(1, 1), strict=True)]

    @torch.inference_mode()
    def construct(
        self,
        segments: Sequence[list[Any]],
        images: Sequence[list[Any]],
        image_ranges: Tensor,
        segment_ranges: Tensor,
    ) -> ProgramContent:
        """Do the rest of a build, as `ReExposureNetwork.construct` with b = 1; valid until the next one.

        Raises:
            ValueError: a shape or a number of parts does not fit; says which.
        """
        frames, count = [part for parts in images for part in parts], self._network.config.segments
        events = [part for parts in segments for part in parts]
        if len(events) != count:
            raise ValueError(f"segments are {len(events)}; this engine was made for {count}")
        self._expect("image_ranges", image_ranges, (1, len(frames), self._job.height, 2))
        self._expect("segment_ranges", segment_ranges, (1, count, 2))
        program = self._build_program(len(frames))
        return ProgramContent(image_ranges.shape, program(events, frames, image_ranges, segment_ranges))


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
