"""Engines that convert exported graphs: the graphs, TensorRT's logic over a stub of it, and OpenVINO's cache."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nire.engines import Job, tensorrt
from nire.engines.choice import open_engine
from nire.engines.graphs import (
    BuildGraph,
    ConstructGraph,
    CorrectGraph,
    ImageGraph,
    SegmentGraph,
    build_example,
    export,
    expose_example,
    flat,
)
from nire.engines.programs import ProgramEngine
from nire.errors import EngineError
from tests.nire.network import tiny

SIZE = (tiny.HEIGHT, tiny.WIDTH)


class StubbedTensorRT:
    """Stands for torch_tensorrt: "compiles" to the exported program itself."""

    __version__ = "0.0-stub"

    def __init__(self) -> None:
        self.compiled: list[set[torch.dtype]] = []
        self.dynamo = self

    def compile(
        self, program: Any, *, inputs: Sequence[Tensor], enabled_precisions: set[torch.dtype]
    ) -> torch.export.ExportedProgram:
        assert all(tensor.is_contiguous() for tensor in inputs)
        self.compiled.append(enabled_precisions)
        return program

    def save(self, program: Any, path: str, *, output_format: str, inputs: Sequence[Tensor]) -> None:
        assert output_format == "exported_program"
        assert inputs
        torch.export.save(program, path)

    def load(self, path: str) -> torch.export.ExportedProgram:
        return torch.export.load(path)


def job(cache: Path, *frames: int) -> Job:
    return Job(*SIZE, frames, torch.device("cpu"), "fp32", cache)


def defined(frames: int, queries: int) -> Tensor:
    network = tiny.network()
    with torch.no_grad():
        return network.expose(network.build(*tiny.build_inputs(frames)), *tiny.expose_inputs(frames, queries))


@pytest.mark.parametrize("attention", ["cached", "joint"])
@pytest.mark.parametrize("frames", [0, 1, 2])
def test_exported_graphs_compute_what_the_network_does(frames: int, attention: str) -> None:
    network = tiny.network(attention=attention).requires_grad_(False)
    build = BuildGraph(network, frames)
    inputs, (shutters, re_exposed) = tiny.build_inputs(frames), tiny.expose_inputs(frames, 2)
    example = build_example(network, frames, *SIZE)
    content = export(build, build.taken(*example)).module()(*build.taken(*inputs))
    expected = network.build(*inputs)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(content, flat(expected), strict=True))
    asked, light = expose_example(network, frames, 2, size=SIZE, per_pixel=False)
    correct = export(CorrectGraph(network), (asked, network.slots(light).planes, *flat(network.build(*example))))
    slots = network.slots(re_exposed)
    images = network.develop(correct.module()(shutters, slots.planes, *content), slots).unflatten(0, (1, 2))
    assert (images - network.expose(expected, shutters, re_exposed)).abs().max() < 1e-5


@pytest.mark.parametrize("attention", ["cached", "joint"])
@pytest.mark.parametrize("frames", [0, 1, 2])
def test_exported_graphs_of_parts_compute_together_what_a_build_does(frames: int, attention: str) -> None:
    network = tiny.network(attention=attention).requires_grad_(False)
    inputs, example = tiny.build_inputs(frames), build_example(network, frames, *SIZE)
    maps: list[Tensor] = []
    for graph in (SegmentGraph(network), ImageGraph(network))[: 1 + (frames > 0)]:
        encode = export(graph, next(graph.inputs(*example))).module()
        maps += [level for cut in graph.inputs(*inputs) for level in encode(*cut)]
    construct = ConstructGraph(network, frames)
    rest = export(construct, next(construct.inputs(*example))).module()
    content = rest(*construct.ranges(inputs[2], inputs[3]), *maps)
    expected = flat(network.build(*inputs))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(content, expected, strict=True))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.export.save about torch itself
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorrt_compiles_each_program_once_and_takes_it_from_the_cache_then(tmp_path: Path) -> None:
    stub = StubbedTensorRT()
    for compiled in (3, 3):  # the second time everything is there
        network = tiny.network().requires_grad_(False)
        maker = tensorrt.Maker(network, job(tmp_path), "bf16", package=stub, gpu="stub")
        engine = ProgramEngine("tensorrt", network, job(tmp_path), maker=maker, sizes=(1, 4))
        for queries in (1, 3):
            images = engine.expose(engine.build(*tiny.build_inputs(2)), *tiny.expose_inputs(2, queries))
            assert (images - defined(2, queries)).abs().max() < 1e-5
        assert len(stub.compiled) == compiled
    assert stub.compiled[0] == {torch.float32, torch.bfloat16}
    tensorrt.Maker(tiny.network(), job(tmp_path), "bf16", package=stub, gpu="another").build(2)
    assert len(stub.compiled) == 4


def test_openvino_takes_what_it_made_from_the_cache_and_makes_anew_what_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    with caplog.at_level(logging.INFO):
        open_engine("openvino", tiny.network(), job(tmp_path, 1))
        assert caplog.text.count("made") == 6
        caplog.clear()
        engine = open_engine("openvino", tiny.network(), job(tmp_path, 1))
        assert "made" not in caplog.text
        images = engine.expose(engine.build(*tiny.build_inputs(1)), *tiny.expose_inputs(1, 5))
        assert (images - defined(1, 5)).abs().max() < 1e-4
        (blob,) = tmp_path.rglob("construct-1.blob")
        blob.write_bytes(blob.read_bytes()[:1000])
        open_engine("openvino", tiny.network(), job(tmp_path, 1))
        assert "cannot be used" in caplog.text


def test_openvino_runs_where_nothing_can_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "file").write_bytes(b"")
    engine = open_engine("openvino", tiny.network(), job(tmp_path / "file"))
    images = engine.expose(engine.build(*tiny.build_inputs(0)), *tiny.expose_inputs(0, 1))
    assert (images - defined(0, 1)).abs().max() < 1e-4
    assert "cannot be kept" in caplog.text


def test_openvino_refuses_a_network_without_events(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(EngineError, match="use_events"):
        open_engine("openvino", tiny.network(use_events=False), job(tmp_path))
