"""OpenVINO runs the network on the CPU: converted once for each shape, and kept on disk.

OpenVINO gets what is arithmetic of the network. The physics of `expose`, float32 estimates folded and blended, stays in
torch: OpenVINO took longer over the folding than over the convolutions.

In int8 the content is constructed. Frames and segments are encoded, and films exposed, in bf16 (float32 where the
processor has no bf16): encoding is short and mostly done ahead, and films lose a quarter of a decibel by 8 bits.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import time
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from nire.engines import Job
from nire.engines.cache import Cache, key_of
from nire.engines.examples import windows
from nire.engines.graphs import (
    ConstructGraph,
    CorrectGraph,
    ImageGraph,
    SegmentGraph,
    build_example,
    export,
    expose_example,
    flat,
)
from nire.engines.programs import BuildProgram, EncodeProgram, ExposeProgram, PartProgramEngine
from nire.errors import EngineError, EngineMissing
from nire.install import pip_install
from nire.network.reexposure import ReExposureNetwork

_log = logging.getLogger(__name__)

# A batch of four has most of the advantage of one of eight; each further size takes seconds to convert.
_SIZES = (1, 2, 4)
_HINTS = {"fp32": "f32", "bf16": "bf16"}
# Windows that tell NNCF the ranges of values: all that `windows` varies. Three times as many changed nothing.
_EXAMPLES = 12


def create(network: ReExposureNetwork, job: Job) -> PartProgramEngine:
    """Make the engine.

    Args:
        network: on the CPU, in float32; is the engine's from now on.
        job: what for.

    Raises:
        ConfigError: the precision is not there.
        EngineError: OpenVINO cannot run this network.
        EngineMismatch: the cache holds something else under this key.
        EngineMissing: the job is for a GPU, or the package is not installed.
    """
    check(network, job)
    precision = job.precision_of("openvino", (*_HINTS, "int8"))
    maker = _Maker(network.float().eval().requires_grad_(False), job, precision)
    return PartProgramEngine("openvino", network, job, maker=maker, sizes=_SIZES, has_threads=True)


def check(network: ReExposureNetwork, job: Job) -> None:
    """Refuse what cannot run here, before anything is made; arguments and errors are those of `create`."""
    precision = job.precision_of("openvino", (*_HINTS, "int8"))
    if job.device.type != "cpu":
        raise EngineMissing(f"the engine 'openvino' runs on CPUs, the device is {job.device}; set device = 'cpu'")
    if not network.config.use_events:
        raise EngineError(
            f"the engine 'openvino' runs networks with events, and this one ({network.config.size}) has use_events = "
            "False. Use reconstructor.engine = 'eager'"
        )
    package("openvino")
    if precision == "int8":
        package("nncf")


_Part = ImageGraph | SegmentGraph | ConstructGraph
_Graph = _Part | CorrectGraph


class _Maker:
    """Converts, compiles, and keeps what was compiled."""

    def __init__(self, network: ReExposureNetwork, job: Job, precision: str) -> None:
        self._network, self._job = network, job
        self._openvino = package("openvino")
        # What is not int8 then is as without being asked.
        self._nncf = package("nncf") if precision == "int8" else None
        if precision == "int8":
            precision = replace(job, precision="auto").precision_of("openvino", tuple(_HINTS))
        self._core = self._openvino.Core()
        self._options = options_for(precision)
        # What is handed from graph to graph, features and content, is in what they compute with.
        self._handed_type = self._openvino.Type.bf16 if precision == "bf16" else self._openvino.Type.f32
        self._cache = Cache(
            job.cache / "openvino",
            key_of(
                network,
                height=job.height,
                width=job.width,
                options=sorted(self._options.items()),
                processor=self._core.get_property("CPU", "FULL_DEVICE_NAME"),
                openvino=self._openvino.get_version(),
                nncf=getattr(self._nncf, "__version__", None),
                torch=torch.__version__,
            ),
        )

    def encode_images(self) -> EncodeProgram:
        return self._encode("image", ImageGraph(self._network))

    def encode_segments(self) -> EncodeProgram:
        return self._encode("segment", SegmentGraph(self._network))

    def build(self, frames: int) -> BuildProgram:
        graph = ConstructGraph(self._network, frames)
        example = self._example(graph, frames)
        request = self._request(f"construct-{frames}", graph, example, given=2 if frames else 1)

        def program(segments: list[Any], images: list[Any], *ranges: Tensor) -> Any:
            self._infer(request, graph.ranges(*ranges), itertools.chain(*segments, *images))
            return request

        return program

    def _encode(self, name: str, graph: ImageGraph | SegmentGraph) -> EncodeProgram:
        example = self._example(graph, 1)
        request = self._request(name, graph, example, given=len(example))
        outputs = [(output.element_type, output.shape) for output in request.model_outputs]

        def program(*tensors: Tensor) -> Any:
            # Fresh ones each time: they are the caller's.
            made = [self._openvino.Tensor(*output) for output in outputs]
            for index, maps in enumerate(made):
                request.set_output_tensor(index, maps)
            self._infer(request, tensors)
            return made

        return program

    def _example(self, graph: _Part, frames: int) -> tuple[Tensor, ...]:
        """Make what a graph takes; values do not change it."""
        return next(graph.inputs(*build_example(self._network, frames, self._job.height, self._job.width)))

    def expose(self, frames: int, queries: int, *, per_pixel: bool) -> ExposeProgram:
        size = (self._job.height, self._job.width)
        shutters, re_exposed = expose_example(self._network, frames, queries, size=size, per_pixel=per_pixel)
        content = self._content_example(frames)
        example = (shutters, self._network.slots(re_exposed).planes, *content)
        name = f"expose-{frames}-{queries}" + ("-pixels" if per_pixel else "")
        request = self._request(name, CorrectGraph(self._network), example, given=2)
        numbers = range(len(content))

        def program(built: Any, shutters: Tensor, re_exposed: Tensor) -> Tensor:
            slots = self._network.slots(re_exposed)
            self._infer(request, (shutters, slots.planes), map(built.get_output_tensor, numbers))
            outputs = torch.from_numpy(request.get_output_tensor(0).data)
            return self._network.develop(outputs, slots).unflatten(0, (1, queries))

        return program

    def _content_example(self, frames: int) -> tuple[Tensor, ...]:
        """Make the content's tensors in shape only."""
        with torch.device("meta"):
            network = ReExposureNetwork(self._network.config)
        tensors = flat(network.build(*build_example(network, frames, self._job.height, self._job.width)))
        return tuple(torch.zeros(tensor.shape) for tensor in tensors)

    def _infer(self, request: Any, tensors: tuple[Tensor, ...], handed: Iterable[Any] = ()) -> None:
        """Infer with these as the first inputs; they are read where they are, so they are held until it is done."""
        arrays = [tensor.detach().float().contiguous().numpy() for tensor in tensors]
        shared = (self._openvino.Tensor(array, shared_memory=True) for array in arrays)
        for index, tensor in enumerate((*shared, *handed)):
            request.set_input_tensor(index, tensor)
        request.infer()

    def _request(self, name: str, graph: _Graph, example: tuple[Tensor, ...], *, given: int) -> Any:
        """Make what infers a graph: from the cache, or anew.

        Args:
            name: in the cache.
            graph, example: what, and what it takes.
            given: number of inputs from outside; the others are what other graphs return.
        """
        kept = self._cache.path(f"{name}.blob")
        if kept is not None:
            try:
                return self._core.import_model(kept.read_bytes(), "CPU", self._options).create_infer_request()
            except RuntimeError as problem:
                _log.warning("%s cannot be used (%s) and is made anew", kept, problem)
        started = time.perf_counter()
        compiled = self._core.compile_model(self._converted(graph, example, given), "CPU", self._options)
        if len(compiled.inputs) != len(example):
            raise EngineError(
                f"the engine 'openvino' found that this network ({self._network.config.size}) does not use all of its "
                "input, and cannot run it. Use reconstructor.engine = 'eager'"
            )
        _log.info("openvino: made %s in %.1f s", name, time.perf_counter() - started)
        try:
            self._cache.put(f"{name}.blob", compiled.export_model().getvalue())
        except OSError as problem:
            _log.warning("openvino: %s cannot be kept (%s) and is made again at the next start", name, problem)
        return compiled.create_infer_request()

    def _converted(self, graph: _Graph, example: tuple[Tensor, ...], given: int) -> Any:
        """Convert a graph; what is handed from graph to graph is in what they compute with."""
        from openvino.preprocess import PrePostProcessor

        model = converted(graph, example)
        if self._nncf is not None and isinstance(graph, ConstructGraph):
            model = self._quantised(model, graph)
        steps = PrePostProcessor(model)
        for index in range(given, len(model.inputs)):
            steps.input(index).tensor().set_element_type(self._handed_type)
        if not isinstance(graph, CorrectGraph):
            for index in range(len(model.outputs)):
                steps.output(index).tensor().set_element_type(self._handed_type)
        return steps.build()

    def _quantised(self, model: Any, graph: ConstructGraph) -> Any:
        """Let NNCF make weights and activations 8-bit integers, in the ranges of rendered windows."""
        assert self._nncf is not None
        height, width = self._job.height, self._job.width
        seen = windows(self._network.config, height=height, width=width, frames=graph.frames, count=_EXAMPLES)
        taken = (inputs for window in seen for inputs in graph.inputs(*window))
        items = [dict(enumerate(tensor.contiguous().numpy() for tensor in inputs)) for inputs in taken]
        logging.getLogger("nncf").setLevel(logging.WARNING)
        return self._nncf.quantize(
            model,
            self._nncf.Dataset(items),
            subset_size=len(items),
            model_type=self._nncf.ModelType.TRANSFORMER,  # leaves the softmax of attention as it is
        )


def options_for(precision: str, *, at_once: int = 1) -> dict[str, Any]:
    """Give what the CPU is told.

    Args:
        precision: "int8" rests on bf16.
        at_once: how many may run side by side, each on as many threads as torch has.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": at_once,
        "INFERENCE_NUM_THREADS": at_once * torch.get_num_threads(),
        # A thread that is bound to a core waits there for whatever else has it: a third of the speed, live.
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
    }


def converted(graph: torch.nn.Module, example: tuple[Tensor, ...]) -> Any:
    """Make an OpenVINO model of a graph at the shapes of an example.

    By the front end itself: `openvino.convert_model` would report each conversion to OpenVINO's makers.

    Raises:
        EngineError: OpenVINO cannot convert it.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    exported = _decomposed(export(graph, example))
    decoder = TorchFXPythonDecoder(exported.module(), dynamic_shapes=False)
    front_end = FrontEndManager().load_by_framework("pytorch")
    try:
        return front_end.convert(front_end.load(decoder))
    except RuntimeError as problem:
        raise EngineError(
            f"OpenVINO {package('openvino').get_version()} cannot convert the network as torch {torch.__version__} "
            f"exports it: {problem}. Use reconstructor.engine = 'eager'"
        ) from problem


def _decomposed(exported: ExportedProgram) -> ExportedProgram:
    """Take apart what OpenVINO does not know, and leave whole what it knows."""
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what it will change in itself
        table = torch.export.default_decompositions()
        for known in ops_to_not_decompose():
            if known in table:
                table.pop(known)
        return exported.run_decompositions(table)


def package(name: str) -> Any:
    """Import a package of this engine.

    Raises:
        EngineMissing: it is not installed; says how to.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        remedy = pip_install("int8") if name == "nncf" else f"pip install {name}"
        raise EngineMissing(
            f"the engine 'openvino' needs the package {name}, which is not here ({error}): {remedy}"
        ) from error
