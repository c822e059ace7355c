"""The network of the explicit content, per size: arithmetic, time of a build, and of images beside those of `edi`.

What a build costs is set against a plain stack of convolutions of as many multiply-adds, by the same engine in the same
precision; what an image costs against an image of `edi`. Works take turns, so that a busy minute is shared by all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nire.backends import edi
from nire.engines import DTYPES, Job
from nire.explicit.choice import open_fastest
from nire.explicit.config import SIZES, ExplicitConfig
from nire.explicit.evidence import called_up, still_evidence
from nire.explicit.network import KeyPlaneNetwork
from nire.explicit.reconstructor import ExplicitReconstructor
from nire.shutter import Shutter
from nire.types import Film, Query

from . import roofline
from .material import pairs
from .report import Result
from .timing import in_turns

_RUNS = 21
_BATCH = 20
_PLAIN_CHANNELS = 32


def run(sizes: Sequence[str] = tuple(SIZES)) -> list[Result]:
    """Measure on `pair` windows of the synthetic camera, 346 x 260, on the CPU; networks are untrained."""
    results: list[Result] = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as cache:
            results += _measure(SIZES[size], Path(cache))
    return results


@torch.no_grad()
def _measure(config: ExplicitConfig, cache: Path) -> list[Result]:
    first, second = pairs(0.4)[2:4]
    geometry, threads = first.geometry, torch.get_num_threads()
    job = Job(*config.padded(geometry.height, geometry.width), (2,), torch.device("cpu"), cache=cache)
    gmac = _gmac(config, job)
    cleaner = open_fastest(KeyPlaneNetwork(config), job)
    ours = ExplicitReconstructor(geometry, cleaner, config, job=job, bin_us=500, threads=threads)
    plain, evidence = _plain(gmac, job, cleaner.name), still_evidence(config, job.height, job.width)
    theirs = edi.create(geometry)
    torch.set_num_threads(threads)
    film, (begin, end) = Film(geometry.height, geometry.width), (frame.mid_us for frame in first.frames)
    moments = np.linspace(begin, end - 9000, _BATCH)
    instants = [Query(film, Shutter.instant(t_us, geometry.height), "bench") for t_us in moments]
    wide = [Query(film, Shutter.flat(t_us, t_us + 8000, geometry.height), "bench") for t_us in moments]
    contents = [backend.build(first) for backend in (ours, theirs)]
    times = in_turns(
        lambda: cleaner(evidence),
        plain,
        # A window that is built twice in a row costs nothing the second time.
        lambda: [ours.build(window) for window in (second, first)],
        lambda: ours.expose(contents[0], instants),
        lambda: theirs.expose(contents[1], instants),
        lambda: ours.expose(contents[0], wide),
        lambda: theirs.expose(contents[1], wide),
        runs=_RUNS,
    )
    cleaner_s, plain_s, builds_s, instant_s, edi_instant_s, wide_s, edi_wide_s = times
    size, build_s = config.size, builds_s / 2
    how = f"{cleaner.name}, {threads} threads, median of {_RUNS}"
    return [
        Result(f"{size}_params", sum(value.numel() for value in KeyPlaneNetwork(config).parameters()), ""),
        Result(f"{size}_build_gmac", gmac, "GMAC", f"{job.width} x {job.height}, {config.planes} key planes"),
        Result(f"{size}_build_ms", 1e3 * build_s, "ms", f"{how}; {len(first.events):,} events"),
        Result(f"{size}_network_ms", 1e3 * cleaner_s, "ms", "of it: witnesses in, planes out"),
        Result(f"{size}_conv_ms", 1e3 * plain_s, "ms", f"{_PLAIN_CHANNELS} channels at half resolution, as many GMAC"),
        Result(f"{size}_build_conv_ratio", build_s / plain_s, "", "a build over those convolutions"),
        Result(f"{size}_network_conv_ratio", cleaner_s / plain_s, "", "the network over those convolutions"),
        Result(f"{size}_instant_ms", 1e3 * instant_s / _BATCH, "ms", f"{_BATCH} in a batch, 8-bit image included"),
        Result(f"{size}_instant_ratio", instant_s / edi_instant_s, "", "over an instant by edi"),
        Result(f"{size}_wide_ratio", wide_s / edi_wide_s, "", "an exposure of 8 ms over the same by edi"),
    ]


def _gmac(config: ExplicitConfig, job: Job) -> float:
    network = KeyPlaneNetwork(config)
    given = called_up(still_evidence(config, job.height, job.width), (job.height, job.width))
    return roofline.counted(lambda: network(*given))[0]


def _plain(gmac: float, job: Job, engine: str) -> Callable[[], object]:
    """Make a stack of 3 x 3 convolutions at half resolution, and give what runs it."""
    height, width, channels = job.height // 2, job.width // 2, _PLAIN_CHANNELS
    count = max(1, round(gmac * 1e9 / (9 * channels**2 * height * width)))
    layers = [layer for _ in range(count) for layer in (nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU())]
    stack, maps = nn.Sequential(*layers).eval(), torch.rand(1, channels, height, width)
    precision = job.precision_of(engine, tuple(DTYPES))
    if engine == "eager":
        dtype = DTYPES[precision]
        stack, maps = (thing.to(dtype, memory_format=torch.channels_last) for thing in (stack, maps))  # type: ignore[call-overload]
        return lambda: stack(maps)
    return _by_openvino(stack, maps, precision)


def _by_openvino(stack: nn.Module, maps: Tensor, precision: str) -> Callable[[], object]:
    from nire.engines.openvino import converted, options_for, package

    compiled = package("openvino").Core().compile_model(converted(stack, (maps,)), "CPU", options_for(precision))
    request, array = compiled.create_infer_request(), maps.numpy()
    return lambda: request.infer([array])
