"""The network's calls, and the parts of a build, as graphs of tensors, for what compiles exported graphs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

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


class ImageGraph(nn.Module):
    """`ReExposureNetwork.encode_images` for one frame: [1, 1, 1, H, W] to its maps, [1, 1, h, w, C] per level."""

    def __init__(self, network: ReExposureNetwork) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode a frame."""
        return tuple(self.network.encode_images(image))

    def inputs(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Cut what `build` takes into what this takes, frame by frame."""
        return ((image,) for image in tensors[0].split(1, dim=1))


class SegmentGraph(nn.Module):
    """`ReExposureNetwork.encode_segments` for one segment, to its maps, [1, 1, h, w, C] per level."""

    def __init__(self, network: ReExposureNetwork) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, voxels: Tensor, observed: Tensor) -> tuple[Tensor, ...]:
        """Encode a segment: voxels [1, 1, B, H, W], observed [1, 1, B]."""
        return tuple(self.network.encode_segments(voxels, observed))

    def inputs(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Cut what `build` takes into what this takes, segment by segment."""
        _, voxels, _, _, observed = tensors
        return zip(voxels.split(1, dim=1), observed.split(1, dim=1), strict=True)


class ConstructGraph(nn.Module):
    """`ReExposureNetwork.construct` for one N, of what the graphs for single frames and segments return."""

    def __init__(self, network: ReExposureNetwork, frames: int) -> None:
        """Wrap a network."""
        super().__init__()
        self.network, self.frames = network, frames

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Construct: `ranges`, then the maps of all segments, then those of all frames, to the content's tensors."""
        config = self.network.config
        levels, count = len(config.strides), len(self.ranges(*tensors[:2]))
        *_, segment_ranges = tensors[:count]
        maps = list(tensors[count:])
        parts = [maps[k : k + levels] for k in range(0, len(maps), levels)]
        height = maps[0].shape[-3] * config.strides[0]
        image_ranges = tensors[0] if self.frames else segment_ranges.new_empty((1, 0, height, 2))
        segments, images = parts[: config.segments], parts[config.segments :]
        return flat(self.network.construct(segments, images, image_ranges, segment_ranges))

    def ranges(self, image_ranges: Tensor, segment_ranges: Tensor) -> tuple[Tensor, ...]:
        """Choose from the ranges: without frames, there are none of images."""
        return (image_ranges, segment_ranges) if self.frames else (segment_ranges,)

    def inputs(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Compute what this takes, once, from what `build` takes."""
        _, _, image_ranges, segment_ranges, _ = tensors
        parts: list[ImageGraph | SegmentGraph] = [SegmentGraph(self.network)]
        if self.frames:
            parts.append(ImageGraph(self.network))
        maps = [level for part in parts for cut in part.inputs(*tensors) for level in part(*cut)]
        yield *self.ranges(image_ranges, segment_ranges), *maps


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
