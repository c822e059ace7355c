"""Methods of re-exposure, a file each: `create(geometry, device, **settings) -> Reconstructor`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nire.errors import AcceleratorLost, ConfigError, DeviceMemoryFull


def prepare_torch(device: str, threads: int) -> torch.device:
    """Resolve a device name once, at the edge, and set the CPU threads of this process.

    Args:
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:N".
        threads: for arithmetic on the CPU; 0 = torch's own choice, all cores.

    Raises:
        ConfigError: a GPU is asked for that torch cannot use.
    """
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"reconstructor.device = {device!r}, but torch {torch.__version__} finds {torch.cuda.device_count()} GPUs. "
            "Use device = 'cpu', or install a CUDA build of torch and its driver"
        )
    return chosen


@contextmanager
def device_errors(doing: str) -> Iterator[None]:
    """Tell what a device reports in the words of this project.

    Args:
        doing: what it was asked for, for the message: "expose 8 films".

    Raises:
        DeviceMemoryFull: its memory is too small for this.
        AcceleratorLost: it reports an error that outlives the call; this process cannot use it any more.
    """
    try:
        yield
    except torch.OutOfMemoryError as problem:
        raise DeviceMemoryFull(
            f"the GPU has not enough memory to {doing} ({_first_line(problem)}). Free GPU memory, or use a smaller "
            "reconstructor.size"
        ) from problem
    except RuntimeError as problem:
        # Before torch 2.8 the class said nothing, only the text did.
        lost = isinstance(problem, getattr(torch, "AcceleratorError", ())) or "CUDA error" in str(problem)
        if not lost:
            raise
        raise AcceleratorLost(
            f"the GPU failed to {doing} ({_first_line(problem)}); this process has lost it. See nvidia-smi and the "
            "kernel's log, or use reconstructor.device = 'cpu'"
        ) from problem


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]
