"""Step 2: each engine on this device against plain torch in float32 on the CPU, with weights that leave nothing out."""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nire.engines import Engine, Job
from nire.engines.choice import open_engine
from nire.network.config import NetworkConfig
from nire.network.reexposure import ReExposureNetwork

from ..inputs import drawn
from .place import network_of, opened, place

_ENGINES = ("eager", "cudagraph", "tensorrt", "compiled")
_FRAMES, _DRY_FRAMES, _QUERIES = (2, 1), (2,), 3
_SENSOR, _DRY_SENSOR = (96, 128), (32, 32)
# Mean error that is allowed, for images in 0..1: tensor cores round products of float32 to 10 bits, bf16 keeps 8.
_ALLOWED = {"fp32": 2e-3, "bf16": 2e-2}


def cases(asked: argparse.Namespace) -> Sequence[str]:
    """List engines and precisions."""
    return [f"{engine} {precision}" for engine in _ENGINES for precision in _ALLOWED]


def run(case: str, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare one engine."""
    engine, precision = case.split()
    yield compared(engine, precision, asked)


def compared(name: str, precision: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Compare an engine with the definition: two windows in a row, so that what is left of the first would show.

    Args:
        name: of the engine.
        precision: "fp32" or "bf16".
        asked: of the command; `dry_run` says where, and with which network.

    Returns:
        Mean and largest difference of images whose range is given, and whether the mean is within what is allowed.

    Raises:
        EngineMissing: what the engine needs is not there.
    """
    config = network_of("nano", asked)
    network = _stirred(config)
    size = config.padded(*(_DRY_SENSOR if asked.dry_run else _SENSOR))
    cpu, device = torch.device("cpu"), place(asked)
    frames = _DRY_FRAMES if asked.dry_run else _FRAMES
    definition = open_engine("eager", copy.deepcopy(network), Job(*size, frames, cpu, "fp32"))
    defined = _images(definition, config, size, frames, device=cpu)
    with tempfile.TemporaryDirectory() as cache:
        engine = opened(name, network, Job(*size, frames, device, precision, Path(cache)), asked)
        images = _images(engine, config, size, frames, device=device)
    difference = (images - defined).abs()
    mean = float(difference.mean())
    return {
        "mean_error": mean,
        "largest_error": float(difference.max()),
        "range": [float(defined.min()), float(defined.max())],
        "is_right": mean < _ALLOWED[precision],
    }


def _stirred(config: NetworkConfig) -> ReExposureNetwork:
    """Make a network none of whose weights is the zero that some begin with."""
    torch.manual_seed(0)
    network = ReExposureNetwork(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return network


def _images(
    engine: Engine, config: NetworkConfig, size: tuple[int, int], numbers: tuple[int, ...], *, device: torch.device
) -> Tensor:
    """Expose a window for each number of frames, and one more for the first of them: [windows Q, H, W] on the CPU."""
    images = []
    for seed, frames in enumerate((*numbers, numbers[0])):
        torch.manual_seed(seed)
        (pictures, voxels, ranges, segments, observed), (shutters, re_exposed) = drawn(
            config, torch.device("cpu"), queries=_QUERIES, height=size[0], width=size[1]
        )
        build = (pictures[:, :frames], voxels, _ordered(ranges[:, :frames]), _ordered(segments), observed)
        query = (_ordered(shutters), re_exposed[:, :, :frames].contiguous())
        content = engine.build(*(tensor.contiguous().to(device) for tensor in build))
        images.append(engine.expose(content, *(tensor.to(device) for tensor in query)).float().cpu().clone())
    return torch.cat([each[0, :, 0] for each in images])


def _ordered(ranges: Tensor) -> Tensor:
    return ranges.sort(-1).values
