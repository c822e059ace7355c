"""Step 1: the machine, its GPU, versions, what the GPU does at most, and what is not installed."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nire.install import processor

from .steps import STEPS

_PACKAGES = ("torch", "numpy", "triton", "torch-tensorrt", "numba", "safetensors")


def cases(asked: argparse.Namespace) -> Sequence[str]:
    """List them."""
    return ["versions", "device"]


def run(case: str, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what is known."""
    if case == "versions":
        yield {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cpu": processor(),
            "cores": os.cpu_count(),
            "nvidia_smi": _nvidia_smi(),
            **{name: _version_of(name) for name in _PACKAGES},
        }
        for step in STEPS:
            if missing := step.missing():
                yield {"without": step.name, "needed": missing}
    elif importlib.util.find_spec("torch") is None or importlib.util.find_spec("numpy") is None:
        yield {"skipped": "needs torch and numpy: pip install torch numpy"}
    else:
        yield _device(asked)


def _device(asked: argparse.Namespace) -> dict[str, Any]:
    import torch

    from .. import roofline
    from .place import dtype_on, place, side_of

    device = place(asked)
    gmac_s, gb_s = roofline.ceilings(device, dtype_on(device), side_of(device))
    known: dict[str, Any] = {"device": str(device), "tmac_per_s": gmac_s / 1e3, "gb_per_s": gb_s}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        known |= {
            "name": properties.name,
            "memory_gb": properties.total_memory / 1e9,
            "capability": list(torch.cuda.get_device_capability(device)),
            "cuda": torch.version.cuda,
        }
    return known


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _nvidia_smi() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"none: {error}"
