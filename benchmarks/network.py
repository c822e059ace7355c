"""The network, per size: parameters, arithmetic, and time of a build, of the first query and of one more.

Each size is run by the engine that "auto" takes, `nano` by every other engine too that opens here, or that is named;
`nano` is also compared with the published way of working, which redoes nearly everything for each image.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from nire.engines import DTYPES, Engine, Job
from nire.engines.choice import open_engine
from nire.errors import EngineError
from nire.network.config import SIZES, NetworkConfig, named
from nire.network.reexposure import ReExposureNetwork

from . import designs, roofline
from .inputs import FRAMES, HEIGHT, WIDTH, count_work, drawn
from .report import Result

_BATCH = 8
# Runs of a build, and of each query. `base` takes half a minute a build: once, without warming up.
_RUNS = {"nano": 21, "small": 3, "base": 1}
_ROOFLINE = "least time by the ceilings, nothing fused, over the time taken"
_QUICK = ("eager", "openvino", "cudagraph")


def run(
    sizes: tuple[str, ...] = SIZES, device: str | None = None, engines: tuple[str, ...] | None = None
) -> list[Result]:
    """Measure on random input at 346 x 260, padded; N = 2; on the GPU where there is one.

    Args:
        sizes: of the network, untrained.
        device: "cpu", "cuda" or "cuda:N".
        engines: that run `nano` besides the one that "auto" takes; None = those that start in seconds.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = DTYPES[Job(0, 0, (), where).precision_of("eager", tuple(DTYPES))]
    ceilings = roofline.ceilings(where, dtype)
    results = [
        Result("ceiling_gmac_per_s", ceilings[0], "GMAC/s", f"a large product of {dtype}"),
        Result("ceiling_gb_per_s", ceilings[1], "GB/s", "a large copy, read and written"),
    ]
    for size in sizes:
        extra = (_QUICK if engines is None else engines) if size == "nano" else ()
        with tempfile.TemporaryDirectory() as cache:
            results += _measure(named(size), where, extra, cache=Path(cache), dtype=dtype, ceilings=ceilings)
    return results


def _measure(
    config: NetworkConfig,
    device: torch.device,
    extra: tuple[str, ...],
    *,
    cache: Path,
    dtype: torch.dtype,
    ceilings: tuple[float, float],
) -> list[Result]:
    size = config.size
    parameters, build_work, query_work = count_work(config, dtype)
    job = Job(*config.padded(HEIGHT, WIDTH), (FRAMES,), device, cache=cache)
    opened = [_opened("auto", config, job)]
    for name in extra:
        if name == opened[0][0].name:
            continue
        try:
            opened.append(_opened(name, config, job))
        except EngineError as problem:
            print(f"{name} is left out: {problem}", file=sys.stderr)
    # Taking turns, so that a busy minute is shared by all.
    runs = 21 if device.type == "cuda" else _RUNS[size]
    works = [work for engine, _ in opened for work in _works(engine, config, device)]
    from torch._dynamo.utils import counters  # takes two seconds, and most who name this benchmark do not run it

    known = counters["stats"]["unique_graphs"]
    times = _times(works, runs, device)
    results = [
        Result(f"{size}_params", parameters, ""),
        Result(f"{size}_build_gmac", build_work[0], "GMAC", f"{job.width} x {job.height}, N = 2"),
        Result(f"{size}_query_gmac", query_work[0], "GMAC"),
        Result(f"{size}_build_gb", build_work[1], "GB", "read and written by the operations of plain torch"),
        Result(f"{size}_query_gb", query_work[1], "GB"),
        Result(f"{size}_recompilations", counters["stats"]["unique_graphs"] - known, "graphs", "while it was timed"),
    ]
    gmac_s, gb_s = ceilings
    for index, (engine, start_s) in enumerate(opened):
        build_s, first_s, batch_s = times[3 * index : 3 * index + 3]
        next_s = (batch_s - first_s) / (_BATCH - 1)
        prefix = f"{size}_{engine.name}" if index else size
        threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        how = f"{engine.name}, {job.precision_of(engine.name, ())}, {device.type}{threads}, median of {runs}"
        results += [
            Result(f"{prefix}_start_s", start_s, "s", "to make the engine, nothing cached"),
            Result(f"{prefix}_build_ms", 1e3 * build_s, "ms", how),
            Result(f"{prefix}_query_ms", 1e3 * first_s, "ms", "the first of a batch"),
            Result(f"{prefix}_next_ms", 1e3 * next_s, "ms", f"one more in a batch of {_BATCH}"),
            Result(f"{prefix}_query_ratio", next_s / (build_s + first_s), "", "next over build + first"),
            *(
                Result(f"{prefix}_{what}_roofline", max(gmac / gmac_s, gb / gb_s) / seconds, "", _ROOFLINE)
                for what, (gmac, gb), seconds in (("build", build_work, build_s), ("query", query_work, first_s))
            ),
        ]
    if size == "nano" or device.type == "cuda":  # 64 queries of the others take minutes on a CPU
        build, asked = drawn(config, device, queries=designs.MANY)
        results += designs.compare(config, job, build, asked, lambda works: _times(works, min(runs, 11), device))
    return results


def _opened(name: str, config: NetworkConfig, job: Job) -> tuple[Engine, float]:
    """Make an engine of an untrained network, and tell how long that took, seconds."""
    torch.manual_seed(0)
    network = ReExposureNetwork(config)
    start = time.perf_counter()
    return open_engine(name, network, job), time.perf_counter() - start


def _works(engine: Engine, config: NetworkConfig, device: torch.device) -> list[Callable[[], object]]:
    """List what is timed: a build, a query, and a batch of them."""
    inputs, asked = drawn(config, device, queries=_BATCH)
    first = tuple(tensor[:, :1] for tensor in asked)
    content = engine.build(*inputs)
    return [
        lambda: engine.build(*inputs),
        lambda: engine.expose(content, *first),
        lambda: engine.expose(content, *asked),
    ]


def _times(works: list[Callable[[], object]], runs: int, device: torch.device) -> list[float]:
    """Take the median duration of each work, seconds; taking turns, so that a busy minute is shared by all."""
    durations: list[list[float]] = [[] for _ in works]
    for turn in range(runs if runs == 1 else runs + 1):
        for work, taken in zip(works, durations, strict=True):
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn or runs == 1:  # the first turn warms up
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in durations]
