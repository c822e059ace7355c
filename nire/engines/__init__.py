"""How the network is run, a file each: `create(network, job) -> Engine`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from nire.engines.cache import default_folder
from nire.errors import ConfigError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What torch calls each precision."""


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine is made for.

    Attributes:
        height, width: of everything given to the network, padded (`NetworkConfig.padded`).
        frames: numbers of frames that windows will have, each 0 to 2. Engines that prepare their work prepare for
            these at once, and for others when they first meet them.
        device: where tensors come from and results go.
        precision: "auto" (bf16 where the processor computes in it), "fp32", "bf16", "fp16" or "int8".
        cache: folder for what took long to make; made when needed.
    """

    height: int
    width: int
    frames: tuple[int, ...]
    device: torch.device
    precision: str = "auto"
    cache: Path = field(default_factory=default_folder)

    def precision_of(self, engine: str, offered: tuple[str, ...]) -> str:
        """Resolve the precision for an engine.

        Args:
            engine: its name, for the message.
            offered: what it has.

        Raises:
            ConfigError: it has not what is asked.
        """
        if self.precision == "auto":
            has_bf16 = self.device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
            return "bf16" if has_bf16 else "fp32"
        if self.precision not in offered:
            raise ConfigError(
                f"reconstructor.precision = {self.precision!r}: the engine {engine!r} has {', '.join(offered)}"
            )
        return self.precision


class Engine(Protocol):
    """A way of running one network for one sensor; tensors mean what they do in `ReExposureNetwork`, b = 1.

    A result is valid until the next call of the same method: engines reuse memory.
    """

    name: str

    def build(
        self, images: Tensor, voxels: Tensor, image_ranges: Tensor, segment_ranges: Tensor, observed: Tensor
    ) -> Any:
        """Build the content of a window: `ReExposureNetwork.build`; what it returns is for this engine's `expose`.

        Raises:
            ValueError: a shape does not fit; says which.
        """
        ...

    def expose(self, content: Any, shutters: Tensor, re_exposed: Tensor) -> Tensor:
        """Expose Q films, any Q >= 1: `ReExposureNetwork.expose`, float32 [1, Q, 1, H, W].

        Raises:
            ValueError: a shape does not fit; says which.
        """
        ...


@runtime_checkable
class PartEngine(Engine, Protocol):
    """An engine that can also build in parts, so that what depends on one frame or segment is computed once.

    What `encode_images` and `encode_segments` return is this engine's own, and valid for as long as it is held.
    """

    def encode_images(self, images: Tensor) -> Any:
        """Encode frames: `ReExposureNetwork.encode_images`."""
        ...

    def encode_segments(self, voxels: Tensor, observed: Tensor) -> Any:
        """Encode segments: `ReExposureNetwork.encode_segments`."""
        ...

    def construct(
        self, segments: Sequence[Any], images: Sequence[Any], image_ranges: Tensor, segment_ranges: Tensor
    ) -> Any:
        """Do the rest: `ReExposureNetwork.construct`; what it returns is for `expose`, as that of `build`."""
        ...
