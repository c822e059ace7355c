"""Step 4: Q shutters exposed from key planes by torch, as training does, and by one Triton kernel (`fused.py`)."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from nire.explicit.config import NANO
from nire.training.physics import Changes, averaged, between_planes, changes_by_torch, node_shares

from .. import roofline
from .place import dtype_on, forget_peak, median_s, peak_mb, place, side_of

_RESOLUTIONS, _DRY_RESOLUTION = ((346, 260), (640, 480), (1280, 720)), (24, 6)
_QUERIES, _DRY_QUERIES = (1, 8, 64), (3,)
_STEPS_PER_BIN, _DRY_STEPS = 12, 3
_ALSO_BY_CPU = 346 * 260
"""Pixels of the images that the CPU exposes as well; more take seconds."""
# Rounding of some dozens of products and exponentials of float32, relative to the brightest light.
_ALLOWED = 1e-4


def cases(asked: argparse.Namespace) -> Sequence[str]:
    """List resolutions and numbers of shutters."""
    resolutions, queries = ((_DRY_RESOLUTION,), _DRY_QUERIES) if asked.dry_run else (_RESOLUTIONS, _QUERIES)
    return [f"{width}x{height} Q{count}" for width, height in resolutions for count in queries]


def run(case: str, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure both, and compare: torch here with torch on the CPU, the kernel with torch here."""
    resolution, _, queries = case.partition(" Q")
    width, height = map(int, resolution.split("x"))
    device = place(asked)
    steps = NANO.bins * (_DRY_STEPS if asked.dry_run else _STEPS_PER_BIN)
    here = window(height, width, int(queries), steps=steps, device=device)
    images = by_torch(*here)
    found = _timed(by_torch, here, device)
    if height * width <= _ALSO_BY_CPU:
        found |= difference(images.cpu(), by_torch(*(tensor.cpu() for tensor in here)))
    yield {"way": "torch", **found}
    if importlib.util.find_spec("triton") is None:
        yield {"way": "triton", "skipped": "needs triton, which comes with CUDA builds of torch: pip install triton"}
        return
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        yield {"way": "triton", "skipped": "needs a GPU, or TRITON_INTERPRET=1"}
        return
    from . import fused

    images_of_kernel = fused.exposed(*here)
    yield {"way": "triton", **_timed(fused.exposed, here, device), **difference(images_of_kernel, images)}


def window(
    height: int, width: int, queries: int, *, steps: int, batch: int = 1, device: torch.device | None = None
) -> tuple[Tensor, ...]:
    """Draw a window: what `by_torch` takes; shutters of all widths, some beyond the window's ends."""
    where = device or torch.device("cpu")
    draw = torch.Generator(where).manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=draw, device=where)

    seen = (steps, 2, height, width)
    counts = (drawn(*seen) < 0.1).to(torch.uint8) + (drawn(*seen) < 0.05)
    told = changes_by_torch(counts, torch.full((batch,), 0.25, device=where), torch.full((batch,), 0.2, device=where))
    planes = drawn(NANO.planes, height, width)
    opens = 1.2 * drawn(queries, 1) - 0.1 + torch.linspace(0, 0.1, height, device=where)
    widths = drawn(queries, 1).mul(0.4).sub(0.1).clamp_min(0).expand(-1, -1, height)
    return planes, told.log_gain, told.count, torch.stack((opens, opens + widths), -1)


def by_torch(planes: Tensor, log_gain: Tensor, count: Tensor, shutters: Tensor) -> Tensor:
    """Expose by the definition; arguments and result are those of `fused.exposed`."""
    light = between_planes(planes, Changes(log_gain, count))
    return averaged(light, node_shares(shutters, log_gain.shape[1] - 1))


def difference(images: Tensor, defined: Tensor) -> dict[str, Any]:
    """Compare images with what is right: the largest error over the brightest light, and whether it is rounding."""
    error = float((images - defined).abs().max() / defined.max())
    return {"error": error, "is_right": error < _ALLOWED}


def _timed(expose: Callable[..., Tensor], given: tuple[Tensor, ...], device: torch.device) -> dict[str, Any]:
    forget_peak(device)
    seconds = median_s(lambda: expose(*given), device)
    _, gb_s = roofline.ceilings(device, dtype_on(device), side_of(device))
    planes, log_gain, _, shutters = given
    least_s = least_bytes(planes, log_gain, shutters) / 1e9 / gb_s
    queries = shutters.shape[1]
    return {
        "ms": 1e3 * seconds,
        "frames_per_s": queries / seconds,
        "roofline": least_s / seconds,
        "memory_mb": peak_mb(device),
    }


def least_bytes(planes: Tensor, log_gain: Tensor, shutters: Tensor) -> int:
    """Count what any exposure has to read and write: planes, both kinds of nodes, images."""
    batch, _, height, width = planes.shape
    return 4 * (planes.numel() + 2 * log_gain.numel() + batch * shutters.shape[1] * height * width)
