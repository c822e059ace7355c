"""Methods of re-exposure, a file each: `create(geometry, device, **settings) -> Reconstructor`."""

from __future__ import annotations

import torch

from nire.errors import ConfigError


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
