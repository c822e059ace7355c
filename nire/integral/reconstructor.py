"""What every method that begins with the double integral does: decode frames, integrate, expose."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.backends import device_errors
from nire.colour import demosaiced_light, filter_of
from nire.integral.double_integral import DoubleIntegral
from nire.integral.exposing import Exposing
from nire.light import decode_table
from nire.shutter import Shutter
from nire.types import Content, ContentWindow, Frame, Geometry


class IntegralReconstructor(Exposing):
    """Re-exposure that begins with the double integral. One content is alive at a time: a new `build` takes its memory.

    Beside it there may be the beginning of the next one (`ahead`). As it is, its images are the double integral's.
    """

    name = "edi"
    engine = "torch"
    needs_frames = True
    mixes_pixels = False
    """What neighbours saw goes into a pixel: then a mosaic is demosaiced before, not after."""

    def __init__(self, geometry: Geometry, device: torch.device, bin_us: int) -> None:
        """Allocate for one sensor on one device."""
        super().__init__(geometry, device)
        self._bin_us = bin_us
        self._integral = DoubleIntegral(bin_us, device)
        self._next = DoubleIntegral(bin_us, device)
        self._decoded: list[tuple[Frame, Tensor]] = []
        self._light = torch.empty(0)
        # Events behind a colour filter tell of that colour only: each pixel is re-exposed in its own colour, and the
        # two that it lacks are filled in afterwards.
        by_colour = geometry.bayer and not self.mixes_pixels
        self._filter = filter_of(geometry.bayer, geometry.height, geometry.width) if by_colour else None

    def build(self, window: ContentWindow) -> Content:
        """Integrate the window's events and anchor them to its frames (g, Eq. 7).

        A window that extends the last one, or one that `ahead` began, costs what is new in it.

        Raises:
            ValueError: the window has no frame.
            DeviceMemoryFull: it does not fit into the GPU's memory.
            AcceleratorLost: the GPU failed for good.
        """
        if self._next.leads_to(window):
            self._integral, self._next = self._next, self._integral
        self._current = None
        with device_errors("build a window"):
            self.build_from(window, self._light_of(window.frames))
        self._current = window
        return window

    def build_from(self, window: ContentWindow, light: Sequence[Tensor]) -> None:
        """Build a window whose frames' light is known; `light_at` answers.

        Args:
            window: one or two frames.
            light: float32 [C, H, W] for each frame, linear light in levels 0..255.
        """
        self._integral.build(window, light)
        self._light = torch.empty_like(light[0])
        self._built(window, light)

    def light_at(self, shutter: Shutter) -> Tensor:
        """Expose one shutter of the window built last: float32 [C, H, W], linear levels; valid until the next call."""
        return self._integral.expose(shutter, out=self._light)

    def show(self, shutters: Sequence[Shutter], images: Tensor, encoding: NDArray[np.uint8]) -> bool:
        """Expose shutters of the window built last as images at once: as `DoubleIntegral.show`."""
        return self._integral.show(shutters, images, encoding)

    def ahead(self, window: ContentWindow) -> bool:
        """Begin the content of a window that is not complete; the present content stays as it is.

        Args:
            window: as far as it is there; it may be given again with more.

        Returns:
            False: all that can be done with it is done.
        """
        with device_errors("begin a window"):
            self._next.ahead(window)
        return False

    def _built(self, window: ContentWindow, light: Sequence[Tensor]) -> None:
        """Do what else a window needs; for methods that begin with the double integral."""

    def _light_of(self, frames: Sequence[Frame]) -> list[Tensor]:
        """Linear light of some frames; a frame that is known is not decoded again."""
        self._decoded = [
            next((pair for pair in self._decoded if pair[0] is frame), None) or (frame, self._linear(frame))
            for frame in frames
        ]
        return [light for _, light in self._decoded]

    def _linear(self, frame: Frame) -> Tensor:
        """Linear light of a frame: float32 [C, H, W], levels; a copy, because frames may be read-only."""
        is_linear = frame.transfer == "linear"  # then the table says what there is, at ten times the cost
        light = frame.pixels.astype(np.float32) if is_linear else decode_table(frame.transfer)[frame.pixels]
        if self._filter is not None and light.shape[2] == 3:
            light = np.take_along_axis(light, self._filter, axis=2)
        return torch.from_numpy(light).to(self._device).permute(2, 0, 1).contiguous()

    def _has_mosaic(self, channels: int) -> bool:
        return self._light.shape[0] != channels

    def _in_colour(self, light: Tensor, channels: int) -> Tensor:
        """Fill in the colours of a mosaic [1, H, W] where the frames have three."""
        if not self._has_mosaic(channels):
            return light
        return torch.from_numpy(demosaiced_light(light[0].cpu().numpy(), self._geometry.bayer)).to(self._device)


def threads_for(geometry: Geometry) -> int:
    """One thread per 300,000 pixels, and a core left for the other processes: small images are not worth sharing."""
    wanted = 1 + geometry.width * geometry.height // 300_000
    return max(1, min(wanted, (os.cpu_count() or 2) - 1))
