"""Where the steps compute, with which networks, and how works are timed there."""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch

from nire.engines import DTYPES, Engine, Job
from nire.engines.choice import open_engine
from nire.engines.eager import prepared
from nire.engines.programs import ProgramEngine
from nire.network.config import NetworkConfig, named
from nire.network.reexposure import ReExposureNetwork

_DRY = NetworkConfig(
    size="dry",
    strides=(2, 4),
    channels=(8, 16),
    image_blocks=(0, 0),
    event_blocks=(0, 0),
    decoder_blocks=(0, 0),
    recurrent_levels=(1,),
    segments=2,
    bins=2,
    head_dim=8,
    bands=4,
    head_unshuffle=2,
    head_channels=8,
)
_LEAST_RUNS, _MOST_RUNS, _ENOUGH_S = 3, 100, 0.5


def place(asked: argparse.Namespace) -> torch.device:
    """Choose the first GPU, or the CPU in a dry run.

    Raises:
        RuntimeError: there is no GPU.
    """
    if asked.dry_run:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"torch {torch.__version__} finds no GPU: install its CUDA build and NVIDIA's driver, or try --dry-run"
        )
    return torch.device("cuda", 0)


def network_of(size: str, asked: argparse.Namespace) -> NetworkConfig:
    """Look a size up; in a dry run there is one of a few thousand weights for all."""
    return _DRY if asked.dry_run else named(size)


def opened(name: str, network: ReExposureNetwork, job: Job, asked: argparse.Namespace) -> Engine:
    """Make an engine; arguments and errors are those of `open_engine`.

    In a dry run torch.compile traces the network and leaves it at that, because a CPU compiles for minutes.
    """
    if name != "compiled" or not asked.dry_run:
        return open_engine(name, network, job)
    from nire.engines import compiled  # brings in the compiler, which takes seconds

    placed = prepared(network, job, DTYPES[job.precision_of(name, tuple(DTYPES))])
    return ProgramEngine(name, network, job, maker=compiled.Maker(placed, job, backend="eager"), sizes=(1, 2))


def dtype_on(device: torch.device) -> torch.dtype:
    """Give the type that engines compute in there, unless they are told another."""
    return DTYPES[Job(0, 0, (), device).precision_of("eager", tuple(DTYPES))]


def side_of(device: torch.device) -> int:
    """Give the side of square matrices that keep it busy."""
    return 8192 if device.type == "cuda" else 512


def median_s(work: Callable[[], object], device: torch.device, *, least: int = _LEAST_RUNS) -> float:
    """Take the median duration of a work, whole, seconds; runs once before, then for half a second."""
    _once_s(work, device)
    durations = [_once_s(work, device) for _ in range(least)]
    while sum(durations) < _ENOUGH_S and len(durations) < _MOST_RUNS:
        durations.append(_once_s(work, device))
    return statistics.median(durations)


def peak_mb(device: torch.device) -> float:
    """Most memory that was held since `forget_peak`: of the GPU, or of this process since it began; 1e6 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def forget_peak(device: torch.device) -> None:
    """Begin to look for the most memory."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _once_s(work: Callable[[], object], device: torch.device) -> float:
    start_s = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start_s
