"""What every method does that answers with light: expose the shutters that are asked, and encode 8-bit images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.backends import device_errors
from nire.integral import instant_loops
from nire.integral import loops as plane_loops
from nire.light import ENCODE_STEPS, encode_table
from nire.shutter import Shutter
from nire.types import Content, ContentWindow, Geometry, Query, Transfer


class Exposing:
    """Answers for the window built last; who inherits builds it, sets `_current`, and gives its light."""

    name = ""

    def __init__(self, geometry: Geometry, device: torch.device) -> None:
        """Prepare for one sensor on one device."""
        self._device = device
        self._geometry = geometry
        self._images = torch.empty(0, dtype=torch.uint8)
        self._current: ContentWindow | None = None
        self._encode: dict[Transfer, Tensor] = {}

    def light_at(self, shutter: Shutter) -> Tensor:
        """Expose one shutter of the window built last: float32 [C, H, W], linear levels; valid until the next call."""
        raise NotImplementedError

    def show(self, shutters: Sequence[Shutter], images: Tensor, encoding: NDArray[np.uint8]) -> bool:
        """Expose shutters of the window built last as images at once, where that can be done: `DoubleIntegral.show`."""
        raise NotImplementedError

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        """Expose films (f, Eq. 5): uint8 [Q, H, W, C], in the window's transfer; valid until the next call.

        Raises:
            ShutterOutsideWindow: a shutter reaches beyond the window's `covered_us`.
            ValueError: the content is not the last one built, or a film or a shutter has another size than the sensor.
            DeviceMemoryFull: so many films do not fit into the GPU's memory.
            AcceleratorLost: the GPU failed for good.
        """
        window: ContentWindow = content
        if window is not self._current:
            raise ValueError("this content was replaced by a later build; build its window again")
        height, width = self._geometry.height, self._geometry.width
        for query in queries:
            window.require(query.shutter)
            if (query.film.height, query.film.width) != (height, width):
                raise ValueError(f"{self.name} exposes films of {width} x {height} only, got {query.film}")
        with device_errors(f"expose {len(queries)} films"):
            return self._exposed(window, queries)

    def _exposed(self, window: ContentWindow, queries: Sequence[Query]) -> NDArray[np.uint8]:
        height, width = self._geometry.height, self._geometry.width
        channels = window.film.channels
        if self._images.shape[0] < len(queries) or self._images.shape[3] != channels:
            self._images = torch.empty((len(queries), height, width, channels), dtype=torch.uint8, device=self._device)
        encoding = _encoding_of(window.transfer)
        has_mosaic = self._has_mosaic(channels)
        shutters, images = [query.shutter for query in queries], self._images[: len(queries)]
        if queries and (has_mosaic or not self.show(shutters, images, encoding)):
            for n, shutter in enumerate(shutters):
                if has_mosaic or not self.show([shutter], images[n : n + 1], encoding):
                    self._encode_into(self._in_colour(self.light_at(shutter), channels), window.transfer, images[n])
        return self._images[: len(queries)].cpu().numpy()

    def _has_mosaic(self, channels: int) -> bool:
        """Tell whether light comes as a mosaic, of which images of so many channels are to be made."""
        return False

    def _in_colour(self, light: Tensor, channels: int) -> Tensor:
        """Give light [C, H, W] so many channels."""
        return light

    def _encode_into(self, light: Tensor, transfer: Transfer, image: Tensor) -> None:
        """Write float32 [C, H, W] linear levels as uint8 [H, W, C]; `light` is overwritten."""
        if plane_loops.serve(light):
            instant_loops.encode(image.numpy(), light.numpy(), _encoding_of(transfer))
            return
        if transfer == "linear":
            image.copy_(light.round_().clamp_max_(255.0).permute(1, 2, 0))
            return
        if transfer not in self._encode:
            self._encode[transfer] = torch.from_numpy(encode_table(transfer)).to(self._device)
        steps = light.clamp_max_(255.0).mul_(ENCODE_STEPS).add_(0.5).long()
        image.copy_(self._encode[transfer][steps].permute(1, 2, 0))


def _encoding_of(transfer: Transfer) -> NDArray[np.uint8]:
    return instant_loops.ROUNDED if transfer == "linear" else encode_table(transfer)
