"""Step 3: the network by one engine, each size at each resolution: a build, and Q images of its content."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from nire.engines import DTYPES, Job
from nire.explicit.config import SIZES as EXPLICIT
from nire.network.config import SIZES
from nire.network.reexposure import ReExposureNetwork

from .. import roofline
from ..inputs import FRAMES, count_work, drawn
from .place import dtype_on, forget_peak, median_s, network_of, opened, peak_mb, place, side_of

_RESOLUTIONS = ((346, 260), (640, 480), (1280, 720))
_QUERIES = (1, 8, 64)
_DRY_RESOLUTIONS, _DRY_QUERIES = ((32, 32),), (1, 2)
_KEY_PLANES = "key planes "
_ceilings: list[tuple[float, float]] = []


def cases(asked: argparse.Namespace) -> Sequence[str]:
    """List sizes and resolutions, those that take least first; key planes are known to plain torch alone."""
    sizes = [*(_KEY_PLANES + size for size in EXPLICIT if asked.argument == "eager"), *SIZES]
    resolutions = _RESOLUTIONS
    if asked.dry_run:
        sizes, resolutions = [size for size in sizes if size.endswith("nano")], _DRY_RESOLUTIONS
    return [f"{size} {width}x{height}" for size in sizes for width, height in resolutions]


def run(case: str, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure one size at one resolution, untrained, on random input."""
    size, _, resolution = case.rpartition(" ")
    width, height = map(int, resolution.split("x"))
    device = place(asked)
    if size.startswith(_KEY_PLANES):
        yield from _key_planes(size.removeprefix(_KEY_PLANES), height, width, device)
        return
    with tempfile.TemporaryDirectory() as cache:
        yield from _network(size, (height, width), asked, device=device, cache=Path(cache))


def _network(
    size: str, sensor: tuple[int, int], asked: argparse.Namespace, *, device: torch.device, cache: Path
) -> Iterator[dict[str, Any]]:
    (height, width), name = sensor, asked.argument
    queries = _DRY_QUERIES if asked.dry_run else _QUERIES
    config, dtype = network_of(size, asked), dtype_on(device)
    _, build_work, query_work = count_work(config, dtype, height=height, width=width)
    job = Job(*config.padded(height, width), (FRAMES,), device, cache=cache)
    torch.manual_seed(0)
    network = ReExposureNetwork(config)
    start_s = time.perf_counter()
    engine = opened(name, network, job, asked)
    started_s = time.perf_counter() - start_s
    inputs, wanted = drawn(config, device, queries=max(queries), height=height, width=width)
    forget_peak(device)
    build_s = median_s(lambda: engine.build(*inputs), device)
    yield {
        "start_s": started_s,
        "build_ms": 1e3 * build_s,
        "build_roofline": _roofline(build_work, build_s, device),
        "memory_mb": peak_mb(device),
        "precision": job.precision_of(name, tuple(DTYPES)),
    }
    content = engine.build(*inputs)
    for count in queries:
        few = tuple(tensor[:, :count].contiguous() for tensor in wanted)
        forget_peak(device)
        try:
            query_s = median_s(lambda few=few: engine.expose(content, *few), device)  # type: ignore[misc]
        except torch.OutOfMemoryError as error:
            yield {"queries": count, "failed": str(error).partition("\n")[0]}
            continue
        yield {
            "queries": count,
            "query_ms": 1e3 * query_s,
            "frames_per_s": count / (build_s + query_s),
            "query_roofline": _roofline(tuple(count * work for work in query_work), query_s, device),
            "memory_mb": peak_mb(device),
        }


def _key_planes(size: str, height: int, width: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """Measure the network of key planes, which is asked once a window; exposing them is the step `physics`."""
    from nire.explicit.network import TOLD, WITNESSES, KeyPlaneNetwork

    config = EXPLICIT[size]
    height, width = config.padded(height, width)

    def inputs(where: torch.device) -> list[torch.Tensor]:
        planes, bins = config.planes, config.bins
        shapes = [(planes, WITNESSES, height, width)] * 2 + [(bins, height, width)] * 2
        shapes += [(2, height, width), (2, height, 2), (bins,), (TOLD,)]
        return [torch.rand(1, *shape, device=where) for shape in shapes]

    with torch.device("meta"):
        counted = KeyPlaneNetwork(config)
    work = roofline.counted(lambda: counted(*inputs(torch.device("meta"))))
    network = KeyPlaneNetwork(config).to(device).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given, dtype = inputs(device), dtype_on(device)
    lower = dtype != torch.float32
    forget_peak(device)
    with torch.no_grad(), torch.autocast(device.type, dtype if lower else torch.bfloat16, enabled=lower):
        build_s = median_s(lambda: network(*given), device)
    yield {
        "build_ms": 1e3 * build_s,
        "build_roofline": _roofline(work, build_s, device),
        "memory_mb": peak_mb(device),
        "precision": str(dtype).removeprefix("torch."),
    }


def _roofline(work: Sequence[float], seconds: float, device: torch.device) -> float:
    """Take the least time by the ceilings, nothing fused, over the time taken."""
    if not _ceilings:
        _ceilings.append(roofline.ceilings(device, dtype_on(device), side_of(device)))
    return max(each / ceiling for each, ceiling in zip(work, _ceilings[0], strict=True)) / seconds
