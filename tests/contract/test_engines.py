"""What every engine must keep: the images of the definition, for any frames and queries, and the same refusals."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nire.engines import Engine, Job, PartEngine, compiled
from nire.engines.choice import engines, open_engine
from nire.engines.eager import prepared
from nire.engines.programs import ProgramEngine
from nire.errors import EngineMissing
from nire.network import weights
from nire.network.reexposure import ReExposureNetwork
from nire.training.pictures import find_images, make_bank
from nire.training.samples import Samples, cut_into_segments
from nire.training.settings import DataSettings
from tests.nire.network import tiny
from tests.nire.precision import in_bf16
from tests.nire.training.rooms import write_images

# Largest difference from the definition in float32; images are square roots of light, 0..1, a level is about 0.004.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.02, "int8": 0.04}
QUERIES = 9
TASKS = {0: "events_only", 1: "live_edge", 2: "blurry_vfi"}


@dataclass(frozen=True)
class Case:
    """A network, and what is asked of it."""

    network: Callable[[], ReExposureNetwork]
    size: tuple[int, int]
    inputs: Callable[[int], tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]]


def shipped() -> ReExposureNetwork:
    path = weights.shipped("paper_nano")
    assert path is not None
    return weights.load(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The shipped weights on rendered windows of 64 x 64."""
    folder = write_images(tmp_path_factory.mktemp("pictures"), size=(220, 200))
    config = shipped().config
    bank = make_bank(find_images(folder), crop_px=64, tiles=4, sprites=4, seed=1)
    data = DataSettings(crop_px=64, batch=1, queries=QUERIES, layers=1, tiles=4, sprites=4)
    samples = Samples(bank, data, cut=cut_into_segments(config.segments, config.bins), seed=3)

    @functools.cache
    def inputs(frames: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
        made = samples.at(0, TASKS[frames])
        build = (made.images, made.voxels, made.image_ranges, made.segment_ranges, made.observed)
        assert made.images.shape[1] == frames
        return build, (made.shutters, made.re_exposed)

    return Case(shipped, (64, 64), inputs)


# Compiling takes up to a minute a shape: the suite lets torch trace a tiny network, and runs what was traced. What its
# compiler makes of that is tested once, below, with a network of one level.
TRACED = Case(
    tiny.network,
    (tiny.HEIGHT, tiny.WIDTH),
    lambda frames: (tiny.build_inputs(frames), tiny.expose_inputs(frames, QUERIES)),
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, trained: Case) -> Iterator[Callable[[str], tuple[Engine, Case]]]:
    cache = tmp_path_factory.mktemp("engines")

    @functools.cache
    def make(name: str) -> tuple[Engine, Case]:
        case = TRACED if name == "compiled" else trained
        job = _job(name, case, cache)
        if name == "compiled":
            maker = compiled.Maker(prepared(case.network(), job, torch.float32), job, backend="eager")
            return ProgramEngine(name, case.network(), job, maker=maker, sizes=(1, 4)), case
        return open_engine(name, case.network(), job), case

    def make_or_skip(name: str) -> tuple[Engine, Case]:
        try:
            return make(name)
        except EngineMissing as missing:
            pytest.skip(str(missing))

    yield make_or_skip
    torch._dynamo.reset()


def _job(name: str, case: Case, cache: Path, precision: str = "fp32") -> Job:
    device = torch.device("cuda" if name in ("cudagraph", "tensorrt") and torch.cuda.is_available() else "cpu")
    return Job(*case.size, (), device, precision, cache)


Opened = Callable[[str], tuple[Engine, Case]]
each_engine = pytest.mark.parametrize("name", engines())


def on(engine_name: str, tensors: tuple[Tensor, ...]) -> Any:
    device = "cuda" if engine_name in ("cudagraph", "tensorrt") else "cpu"
    return tuple(tensor.to(device) for tensor in tensors)


def asked(case: Case, frames: int, queries: slice) -> tuple[Tensor, Tensor]:
    shutters, re_exposed = case.inputs(frames)[1]
    return shutters[:, queries], re_exposed[:, queries]


def defined(case: Case, frames: int, *, queries: slice = slice(None)) -> Tensor:
    network = case.network().eval()
    with torch.no_grad():
        return network.expose(network.build(*case.inputs(frames)[0]), *asked(case, frames, queries))


def exposed(engine: Engine, case: Case, frames: int, *, queries: slice = slice(None)) -> Tensor:
    content = engine.build(*on(engine.name, case.inputs(frames)[0]))
    return engine.expose(content, *on(engine.name, asked(case, frames, queries))).cpu().clone()


@each_engine
@pytest.mark.parametrize("frames", [0, 1, 2])
def test_images_are_those_of_the_definition_for_any_number_of_queries(opened: Opened, name: str, frames: int) -> None:
    engine, case = opened(name)
    expected = defined(case, frames)
    content = engine.build(*on(name, case.inputs(frames)[0]))
    for count in (1, 2, 3, 5, 9):
        images = engine.expose(content, *on(name, asked(case, frames, slice(count)))).cpu()
        assert images.shape == expected[:, :count].shape
        assert (images - expected[:, :count]).abs().max() < TOLERANCE["fp32"]


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param("eager", "bf16", marks=in_bf16),
        pytest.param("openvino", "bf16", marks=in_bf16),
        ("openvino", "int8"),
    ],
)
def test_images_in_fewer_bits_are_near_those_of_the_definition(
    trained: Case, tmp_path: Path, name: str, precision: str
) -> None:
    try:
        engine = open_engine(name, trained.network(), _job(name, trained, tmp_path, precision))
    except EngineMissing as missing:
        pytest.skip(str(missing))
    error = (exposed(engine, trained, 2) - defined(trained, 2)).abs()
    assert error.max() < TOLERANCE[precision]
    assert error.mean() < TOLERANCE[precision] / 10


@each_engine
@pytest.mark.parametrize("frames", [0, 1, 2])
def test_content_in_parts_is_that_of_a_whole_build(opened: Opened, name: str, frames: int) -> None:
    engine, case = opened(name)
    if not isinstance(engine, PartEngine):
        pytest.skip(f"{name} builds only whole windows")
    images, voxels, image_ranges, segment_ranges, observed = on(name, case.inputs(frames)[0])
    whole = exposed(engine, case, frames)
    # Held while others are made, two segments together and the rest one by one.
    cuts = [slice(0, 2), *(slice(k, k + 1) for k in range(2, voxels.shape[1]))]
    segments = [engine.encode_segments(voxels[:, cut], observed[:, cut]) for cut in cuts]
    encoded = [engine.encode_images(images[:, k : k + 1]) for k in range(frames)]
    engine.construct(segments, encoded[::-1], image_ranges.flip(1), segment_ranges)
    content = engine.construct(segments, encoded, image_ranges, segment_ranges)
    images = engine.expose(content, *on(name, asked(case, frames, slice(None)))).cpu()
    assert (images - whole).abs().max() < 1e-5


@each_engine
def test_image_does_not_depend_on_the_other_queries(opened: Opened, name: str) -> None:
    engine, case = opened(name)
    together = exposed(engine, case, 2)
    for k in (0, 4, 8):
        alone = exposed(engine, case, 2, queries=slice(k, k + 1))
        assert (alone[:, 0] - together[:, k]).abs().max() < 1e-5


@each_engine
def test_shutter_of_each_pixel_that_repeats_those_of_the_rows_gives_the_same(opened: Opened, name: str) -> None:
    engine, case = opened(name)
    rows, re_exposed = asked(case, 1, slice(1))
    pixels = rows.unsqueeze(3).expand(-1, -1, -1, case.size[1], -1)
    content = engine.build(*on(name, case.inputs(1)[0]))
    image = engine.expose(content, *on(name, (pixels, re_exposed))).cpu()
    assert (image - defined(case, 1, queries=slice(1))).abs().max() < TOLERANCE["fp32"]


@each_engine
def test_result_stays_while_the_other_method_is_called(opened: Opened, name: str) -> None:
    engine, case = opened(name)
    first, others = slice(1), slice(5, 6)
    content = engine.build(*on(name, case.inputs(2)[0]))
    image = engine.expose(content, *on(name, asked(case, 2, first)))
    kept = image.clone()
    engine.build(*on(name, case.inputs(1)[0]))
    assert torch.equal(image, kept)
    content = engine.build(*on(name, case.inputs(2)[0]))
    engine.expose(content, *on(name, asked(case, 2, others)))
    again = engine.expose(content, *on(name, asked(case, 2, first)))
    assert torch.equal(again, kept)


@each_engine
def test_mode_of_the_caller_does_not_matter(opened: Opened, name: str) -> None:
    engine, case = opened(name)
    kept = []
    for mode in (torch.inference_mode(), torch.no_grad(), nullcontext()):
        with mode:
            build, ask = case.inputs(2)[0], asked(case, 2, slice(1))
            content = engine.build(*(tensor.clone() for tensor in on(name, build)))
            kept.append(engine.expose(content, *(tensor.clone() for tensor in on(name, ask))).clone())
    assert all(torch.equal(kept[0], other) for other in kept)


@each_engine
def test_shapes_that_do_not_fit_are_refused(opened: Opened, name: str) -> None:
    engine, case = opened(name)
    images, voxels, *rest = on(name, case.inputs(2)[0])
    shutters, re_exposed = on(name, asked(case, 2, slice(2)))
    with pytest.raises(ValueError, match="voxels"):
        engine.build(images, voxels[:, :1], *rest)
    with pytest.raises(ValueError, match="images"):
        engine.build(images[..., :-1], voxels[..., :-1], *rest)
    content = engine.build(images, voxels, *rest)
    with pytest.raises(ValueError, match="re_exposed"):
        engine.expose(content, shutters, re_exposed[:, :, :1])
    with pytest.raises(ValueError, match="shutters"):
        engine.expose(content, shutters[:, :, :-1], re_exposed)


ONE_LEVEL: dict[str, Any] = {
    "strides": (2,),
    "channels": (8,),
    "image_blocks": (0,),
    "event_blocks": (0,),
    "decoder_blocks": (0,),
    "recurrent_levels": (),
    "film_enhancement": False,
}


def test_compiled_kernels_give_the_images_of_the_definition(tmp_path: Path) -> None:
    case = replace(TRACED, network=lambda: tiny.network(**ONE_LEVEL))
    try:
        engine = open_engine("compiled", case.network(), _job("compiled", case, tmp_path))
    except EngineMissing as missing:
        pytest.skip(str(missing))
    images = exposed(engine, case, 1, queries=slice(1))
    assert (images - defined(case, 1, queries=slice(1))).abs().max() < TOLERANCE["fp32"]
    torch._dynamo.reset()
