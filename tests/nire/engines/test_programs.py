"""Programs of fixed shapes: how queries are batched, what is made when, and what happens when memory runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nire.engines import Job, compiled
from nire.engines.eager import prepared
from nire.engines.programs import (
    BuildProgram,
    EncodeProgram,
    ExposeProgram,
    PartProgramEngine,
    ProgramEngine,
    batch_size,
)
from nire.errors import EngineError
from tests.nire.network import tiny


class Maker:
    """Programs that mark every film with its own re-exposure; batches above `fits` run out of memory."""

    def __init__(self, fits: int = 8) -> None:
        self.fits = fits
        self.made: list[tuple[int, ...]] = []
        self.batches: list[int] = []

    def build(self, frames: int) -> BuildProgram:
        self.made.append((frames,))
        return lambda *tensors: tensors[0]

    def expose(self, frames: int, queries: int, *, per_pixel: bool) -> ExposeProgram:
        self.made.append((frames, queries, *([1] if per_pixel else [])))

        def program(content: Any, shutters: Tensor, re_exposed: Tensor) -> Tensor:
            assert shutters.shape[1] == re_exposed.shape[1] == queries
            if queries > self.fits:
                raise torch.OutOfMemoryError("full")
            self.batches.append(queries)
            return re_exposed[:, :, 0, :1]

        return program


class PartMaker(Maker):
    """Parts that are what they were made of; a build is a list of them."""

    def encode_images(self) -> EncodeProgram:
        return lambda image: image

    def encode_segments(self) -> EncodeProgram:
        return lambda voxels, observed: (voxels, observed)

    def build(self, frames: int) -> BuildProgram:
        self.made.append((frames,))
        return lambda segments, images, *ranges: (segments, images)


def engine(maker: Maker, *frames: int) -> ProgramEngine:
    job = Job(tiny.HEIGHT, tiny.WIDTH, frames, torch.device("cpu"), "fp32", Path())
    return ProgramEngine("test", tiny.network(), job, maker=maker)


def answered(made: ProgramEngine, frames: int, queries: int) -> bool:
    """Ask, and tell whether every film got its own answer."""
    shutters, re_exposed = tiny.expose_inputs(frames, queries)
    images = made.expose(made.build(*tiny.build_inputs(frames)), shutters, re_exposed)
    return torch.equal(images, re_exposed[:, :, 0, :1])


def test_batch_is_filled_to_three_quarters_or_smaller() -> None:
    assert [batch_size(q, (1, 2, 4, 8)) for q in range(1, 10)] == [1, 2, 4, 4, 4, 8, 8, 8, 8]
    assert [batch_size(q, (1, 4)) for q in range(1, 10)] == [1, 1, 4, 4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("queries", [1, 2, 3, 5, 7, 8, 19])
def test_every_film_gets_its_own_answer(queries: int) -> None:
    maker = Maker()
    assert answered(engine(maker), 2, queries)
    assert sum(maker.batches) <= 4 / 3 * queries


def test_what_the_job_foresees_is_made_at_once_and_everything_only_once() -> None:
    maker = Maker()
    made = engine(maker, 2)
    assert maker.made == [(2,), (2, 1), (2, 2), (2, 4), (2, 8)]
    for _ in range(2):
        for queries in range(1, 12):
            assert answered(made, 2, queries)
            assert answered(made, 1, queries)
    assert maker.made[5:] == [(1,), (1, 1), (1, 2), (1, 4), (1, 8)]


def test_batches_that_do_not_fit_are_halved_counted_and_not_tried_again() -> None:
    maker = Maker(fits=2)
    made = engine(maker)
    assert answered(made, 2, 9)
    assert (made.out_of_memory, made.sizes) == (2, (1, 2))
    assert answered(made, 2, 8)
    assert made.out_of_memory == 2
    assert max(maker.batches) == 2


def test_engine_that_has_no_memory_for_one_film_says_so() -> None:
    with pytest.raises(EngineError, match="not enough GPU memory"):
        answered(engine(Maker(fits=0)), 2, 3)


def in_parts() -> PartProgramEngine:
    job = Job(tiny.HEIGHT, tiny.WIDTH, (), torch.device("cpu"), "fp32", Path())
    return PartProgramEngine("test", tiny.network(), job, maker=PartMaker())


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_build_of_parts_gives_every_frame_and_segment_alone_and_in_order(frames: int) -> None:
    images, voxels, image_ranges, segment_ranges, observed = tiny.build_inputs(frames)
    made = in_parts().build(images, voxels, image_ranges, segment_ranges, observed)
    segments, encoded = made.made
    assert [image.shape[1] for image in encoded] == [1] * frames
    assert all(torch.equal(image[:, 0], images[:, k]) for k, image in enumerate(encoded))
    assert torch.equal(torch.cat([part for part, _ in segments], 1), voxels)
    assert torch.equal(torch.cat([part for _, part in segments], 1), observed)


def test_parts_that_do_not_fit_are_refused() -> None:
    made = in_parts()
    images, voxels, image_ranges, segment_ranges, observed = tiny.build_inputs(2)
    segments, encoded = [made.encode_segments(voxels, observed)], [made.encode_images(images)]
    with pytest.raises(ValueError, match="segments are"):
        made.construct([made.encode_segments(voxels[:, 1:], observed[:, 1:])], encoded, image_ranges, segment_ranges)
    with pytest.raises(ValueError, match="image_ranges are"):
        made.construct(segments, [made.encode_images(images[:, :1])], image_ranges, segment_ranges)
    with pytest.raises(ValueError, match="images are"):
        made.encode_images(images[..., 1:])
    with pytest.raises(ValueError, match="observed are"):
        made.encode_segments(voxels, observed[:, 1:])


def test_two_windows_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="this engine was made for"):
        engine(Maker()).build(*tiny.build_inputs(2, b=2))


def test_nothing_is_compiled_again_whatever_is_asked(tmp_path: Path) -> None:
    job = Job(tiny.HEIGHT, tiny.WIDTH, (0, 1, 2), torch.device("cpu"), "fp32", tmp_path)
    maker = compiled.Maker(prepared(tiny.network(), job, torch.float32), job, backend="eager")
    made = ProgramEngine("compiled", tiny.network(), job, maker=maker, sizes=(1, 4))
    with torch.compiler.set_stance("fail_on_recompile"):
        for mode in (torch.inference_mode(), torch.no_grad()):
            with mode:
                for frames in (0, 1, 2):
                    for queries in (1, 2, 3, 4, 5, 9):
                        content = made.build(*tiny.build_inputs(frames))
                        made.expose(content, *tiny.expose_inputs(frames, queries))
    torch._dynamo.reset()
