"""Random input for the paper's network, of any size, and its work counted; values do not change what is computed."""

from __future__ import annotations

import torch
from torch import Tensor

from nire.network.config import NetworkConfig
from nire.network.reexposure import ReExposureNetwork

from . import roofline

HEIGHT, WIDTH = 260, 346
FRAMES = 2
BuildInputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
Asked = tuple[Tensor, Tensor]


def drawn(
    config: NetworkConfig, device: torch.device, *, queries: int, height: int = HEIGHT, width: int = WIDTH
) -> tuple[BuildInputs, Asked]:
    """Draw what `build` and `expose` take, for a sensor whose sides are padded; two frames."""
    height, width = config.padded(height, width)
    segments, bins = config.segments, config.bins

    def draw(*shape: int) -> Tensor:
        return torch.rand(1, *shape, device=device)

    build = (
        draw(FRAMES, 1, height, width),
        draw(segments, bins, height, width),
        draw(FRAMES, height, 2),
        draw(segments, 2),
        draw(segments, bins).ceil(),
    )
    return build, (draw(queries, height, 2), draw(queries, FRAMES, 2, height, width))


def count_work(
    config: NetworkConfig, dtype: torch.dtype = torch.float32, *, height: int = HEIGHT, width: int = WIDTH
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """Count parameters, and of a build and a query multiply-adds and bytes moved, 1e9; nothing is computed."""
    with torch.device("meta"):
        network = ReExposureNetwork(config).requires_grad_(False).to(dtype)
    inputs, asked = drawn(config, torch.device("meta"), queries=1, height=height, width=width)
    content = network.build(*inputs)
    parameters = sum(weight.numel() for weight in network.parameters())
    build = roofline.counted(lambda: network.build(*inputs))
    return parameters, build, roofline.counted(lambda: network.expose(content, *asked))
