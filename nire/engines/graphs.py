"""The network's two calls as graphs from tensors to tensors, for what compiles exported graphs."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nire.network.attention import Memory
from nire.network.reexposure import NeuralContent, ReExposureNetwork


class BuildGraph(nn.Module):
    """`ReExposureNetwork.build` for one N. Without frames it does not take images and their ranges."""

    def __init__(self, network: ReExposureNetwork, frames: int) -> None:
        """Wrap a network."""
        super().__init__()
        self.network, self.frames = network, frames

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Build: `taken` of what `build` takes, to the content's tensors."""
        if not self.frames:
            voxels, segment_ranges, observed = tensors
            height, width = voxels.shape[-2:]
            images, image_ranges = voxels.new_empty((1, 0, 1, height, width)), voxels.new_empty((1, 0, height, 2))
        else:
            images, voxels, image_ranges, segment_ranges, observed = tensors
        return flat(self.network.build(images, voxels, image_ranges, segment_ranges, observed))

    def taken(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Choose from the five tensors of `build`."""
        images, voxels, image_ranges, segment_ranges, observed = tensors
        if not self.frames:
            return voxels, segment_ranges, observed
        return images, voxels, image_ranges, segment_ranges, observed


class CorrectGraph(nn.Module):
    """`ReExposureNetwork.correct`: the network's part of `expose`, between the physics before and after it."""

    def __init__(self, network: ReExposureNetwork) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, shutters: Tensor, planes: Tensor, *content: Tensor) -> Tensor:
        """Correct films: shutters, planes and the content's tensors, to what `Head.forward` returns."""
        return self.network.correct(self._content(shutters, list(content)), shutters, planes)

    def _content(self, ranges: Tensor, tensors: list[Tensor]) -> NeuralContent:
        if self.network.config.attention == "joint":
            levels = len(self.network.config.strides)
            return NeuralContent(ranges, [], tensors[:levels], tensors[levels:])
        memory = [Memory(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True)]
        return NeuralContent(ranges, memory, [], [])


def flat(content: NeuralContent) -> tuple[Tensor, ...]:
    """List a content's tensors, as `CorrectGraph.forward` takes them."""
    return (*(tensor for memory in content.memory for tensor in memory), *content.maps, *content.times)


def build_example(network: ReExposureNetwork, frames: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Make what `build` takes: float32 zeros on the network's device; values do not change a graph."""
    config, device = network.config, next(network.parameters()).device
    shapes = (
        (1, frames, 1, height, width),
        (1, config.segments, config.bins, height, width),
        (1, frames, height, 2),
        (1, config.segments, 2),
        (1, config.segments, config.bins),
    )
    return tuple(torch.zeros(shape, device=device) for shape in shapes)


def expose_example(
    network: ReExposureNetwork, frames: int, queries: int, *, size: tuple[int, int], per_pixel: bool
) -> tuple[Tensor, Tensor]:
    """Make what `expose` takes besides the content: float32 zeros on the network's device.

    Args:
        network: gives the device.
        frames, queries: N and Q.
        size: height and width.
        per_pixel: shutters of pixels instead of rows.
    """
    device = next(network.parameters()).device
    across = size[1:] if per_pixel else ()
    shutters = torch.zeros((1, queries, size[0], *across, 2), device=device)
    return shutters, torch.zeros((1, queries, max(frames, 1), 2, *size), device=device)


def export(graph: nn.Module, example: tuple[Tensor, ...]) -> ExportedProgram:
    """Trace a graph at the shapes of an example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what it will change in itself
        return torch.export.export(graph, example)
