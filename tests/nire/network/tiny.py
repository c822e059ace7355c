"""A network of a few thousand weights, and random inputs for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nire.network.config import NetworkConfig
from nire.network.reexposure import ReExposureNetwork

HEIGHT, WIDTH = 16, 24

TINY = NetworkConfig(
    size="tiny",
    strides=(2, 4),
    channels=(8, 16),
    image_blocks=(0, 1),
    event_blocks=(0, 0),
    decoder_blocks=(0, 1),
    recurrent_levels=(1,),
    segments=3,
    bins=2,
    head_dim=8,
    bands=4,
    head_unshuffle=2,
    head_channels=8,
    film_enhancement=True,
)

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def network(*, stirred: bool = True, **changes: Any) -> ReExposureNetwork:
    """Make a tiny network; stirred, no weight is at the zero that some of them start from."""
    torch.manual_seed(0)
    made = ReExposureNetwork(replace(TINY, **changes)).eval()
    if stirred:
        with torch.no_grad():
            for weight in made.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
    return made


def build_inputs(frames: int, *, b: int = 1, config: NetworkConfig = TINY, seed: int = 1) -> Inputs:
    """Draw what `build` takes."""
    draw = torch.Generator().manual_seed(seed)
    starts = torch.tensor([0.1, 0.7])[:frames].reshape(1, frames, 1, 1).expand(b, frames, HEIGHT, 1)
    edges = torch.linspace(0, 1, config.segments + 1)
    return (
        torch.rand(b, frames, 1, HEIGHT, WIDTH, generator=draw),
        torch.randn(b, config.segments, config.bins, HEIGHT, WIDTH, generator=draw),
        torch.cat((starts, starts + 0.2), dim=-1),
        torch.stack((edges[:-1], edges[1:]), dim=-1).expand(b, -1, -1),
        torch.ones(b, config.segments, config.bins),
    )


def expose_inputs(frames: int, queries: int, *, b: int = 1, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Draw what `expose` takes besides the content: rolling shutters; re-exposures and how far each is trusted."""
    draw = torch.Generator().manual_seed(seed)
    opens = torch.rand(b, queries, 1, 1, generator=draw) * 0.5 + torch.linspace(0, 0.1, HEIGHT)[:, None]
    re_exposed = torch.rand(b, queries, max(frames, 1), 2, HEIGHT, WIDTH, generator=draw)
    return torch.cat((opens, opens + 0.2), dim=-1), re_exposed
