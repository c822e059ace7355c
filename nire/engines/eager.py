"""The definition: torch runs the network as it is written, operation by operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from nire.engines import DTYPES, Job
from nire.network.reexposure import NeuralContent, Pyramid, ReExposureNetwork

_Network = TypeVar("_Network", bound=nn.Module)


class EagerEngine:
    """The network itself, in the wanted precision, channels-last in memory."""

    name = "eager"

    def __init__(self, network: ReExposureNetwork, job: Job) -> None:
        """Put the network on its device.

        Raises:
            ConfigError: the precision is not there.
        """
        # A processor's caches hold the maps of a few films; 64 at once take twice as long for each as 8 do.
        self._at_once = 8 if job.device.type == "cpu" else 0
        self._network = prepared(network, job, DTYPES[job.precision_of(self.name, tuple(DTYPES))])

    @torch.inference_mode()
    def build(
        self, images: Tensor, voxels: Tensor, image_ranges: Tensor, segment_ranges: Tensor, observed: Tensor
    ) -> NeuralContent:
        """Build the content of a window, as `ReExposureNetwork.build`."""
        return self._network.build(images, voxels, image_ranges, segment_ranges, observed)

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Pyramid:
        """Encode frames, as `ReExposureNetwork.encode_images`."""
        return self._network.encode_images(images)

    @torch.inference_mode()
    def encode_segments(self, voxels: Tensor, observed: Tensor) -> Pyramid:
        """Encode segments, as `ReExposureNetwork.encode_segments`."""
        return self._network.encode_segments(voxels, observed)

    @torch.inference_mode()
    def construct(
        self, segments: Sequence[Pyramid], images: Sequence[Pyramid], image_ranges: Tensor, segment_ranges: Tensor
    ) -> NeuralContent:
        """Do the rest of a build, as `ReExposureNetwork.construct`."""
        return self._network.construct(segments, images, image_ranges, segment_ranges)

    @torch.inference_mode()
    def expose(self, content: NeuralContent, shutters: Tensor, re_exposed: Tensor) -> Tensor:
        """Expose Q films, as `ReExposureNetwork.expose`."""
        if self._at_once == 0:
            return self._network.expose(content, shutters, re_exposed)
        parts = zip(shutters.split(self._at_once, 1), re_exposed.split(self._at_once, 1), strict=True)
        images = [self._network.expose(content, *asked) for asked in parts]
        return images[0] if len(images) == 1 else torch.cat(images, 1)


def prepared(network: _Network, job: Job, dtype: torch.dtype = torch.float32) -> _Network:
    """Put a network on the job's device, in `dtype` and channels-last, ready to run; it is changed in place."""
    network = network.to(device=job.device, dtype=dtype).eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def convolving_in(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """Let a network of float32 compute its convolutions in `dtype`, whatever of them is done within."""
    lower = dtype != torch.float32
    return torch.autocast(device.type, dtype if lower else torch.bfloat16, enabled=lower)


def check(network: ReExposureNetwork, job: Job) -> None:
    """Refuse what cannot run here, before anything is made; arguments and errors are those of `create`."""
    del network
    job.precision_of(EagerEngine.name, tuple(DTYPES))


def create(network: ReExposureNetwork, job: Job) -> EagerEngine:
    """Make the engine.

    Args:
        network: is the engine's from now on.
        job: what for.

    Raises:
        ConfigError: the precision is not there.
    """
    return EagerEngine(network, job)
