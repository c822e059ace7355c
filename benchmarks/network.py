"""The network, per size: parameters, arithmetic, and time of a build, of the first query and of one more."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import Result
from nire.network.config import SIZES, NetworkConfig, named
from nire.network.reexposure import ReExposureNetwork

_HEIGHT, _WIDTH = 260, 346
_FRAMES, _BATCH = 2, 8
# Runs of a build, and of each query. `base` takes half a minute a build: once, without warming up.
_RUNS = {"nano": 21, "small": 3, "base": 1}


def run(sizes: tuple[str, ...] = SIZES, device: str | None = None) -> list[Result]:
    """Measure on random input at 346 x 260, padded; N = 2; on the GPU where there is one."""
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return [result for size in sizes for result in _measure(named(size), where)]


def _measure(config: NetworkConfig, device: torch.device) -> list[Result]:
    size = config.size
    counts = count_work(config)
    dtype = _fast_dtype(device)
    torch.manual_seed(0)
    network = ReExposureNetwork(config).eval().requires_grad_(False).to(device, dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs, asked = _inputs(config, device, queries=_BATCH)
    first = tuple(tensor[:, :1] for tensor in asked)
    runs = 21 if device.type == "cuda" else _RUNS[size]
    with torch.inference_mode():
        content = network.build(*inputs)
        build_s, first_s, batch_s = _times(
            [
                lambda: network.build(*inputs),
                lambda: network.expose(content, *first),
                lambda: network.expose(content, *asked),
            ],
            runs,
            device,
        )
    next_s = (batch_s - first_s) / (_BATCH - 1)
    height, width = config.padded(_HEIGHT, _WIDTH)
    how = f"{str(dtype).removeprefix('torch.')} channels_last, eager, {device.type}"
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    conditions = f"{width} x {height}, N = 2, {how}{threads}, median of {runs}"
    return [
        Result(f"{size}_params", counts[0], ""),
        Result(f"{size}_build_gmac", counts[1], "GMAC", f"{width} x {height}, N = 2"),
        Result(f"{size}_query_gmac", counts[2], "GMAC"),
        Result(f"{size}_build_ms", 1e3 * build_s, "ms", conditions),
        Result(f"{size}_query_ms", 1e3 * first_s, "ms", "the first of a batch"),
        Result(f"{size}_next_ms", 1e3 * next_s, "ms", f"one more in a batch of {_BATCH}"),
        Result(f"{size}_query_ratio", next_s / (build_s + first_s), "", "next over build + first"),
    ]


def count_work(config: NetworkConfig) -> tuple[float, float, float]:
    """Count parameters, and multiply-adds (1e9) of a build and a query; on the meta device nothing is computed."""
    with torch.device("meta"):
        network = ReExposureNetwork(config).requires_grad_(False)
    inputs, asked = _inputs(config, torch.device("meta"), queries=1)
    with FlopCounterMode(display=False) as build:
        content = network.build(*inputs)
    with FlopCounterMode(display=False) as query:
        network.expose(content, *asked)
    parameters = sum(weight.numel() for weight in network.parameters())
    return parameters, build.get_total_flops() / 2e9, query.get_total_flops() / 2e9


def _inputs(
    config: NetworkConfig, device: torch.device, *, queries: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Draw what `build` and `expose` take; values do not change what is computed."""
    height, width = config.padded(_HEIGHT, _WIDTH)
    segments, bins = config.segments, config.bins

    def draw(*shape: int) -> Tensor:
        return torch.rand(1, *shape, device=device)

    build = (
        draw(_FRAMES, 1, height, width),
        draw(segments, bins, height, width),
        draw(_FRAMES, height, 2),
        draw(segments, 2),
        draw(segments, bins).ceil(),
    )
    return build, (draw(queries, height, 2), draw(queries, _FRAMES, 2, height, width))


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


def _fast_dtype(device: torch.device) -> torch.dtype:
    """Choose bfloat16 on a GPU, and where the processor has instructions for it."""
    if device.type == "cuda":
        return torch.bfloat16
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    return torch.bfloat16 if any(f"{name}_bf16" in flags for name in ("avx512", "amx")) else torch.float32
