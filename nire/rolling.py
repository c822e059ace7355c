"""Rolling content: what a window's frames and events give by themselves, computed when they arrive, and kept.

Time enters the network at its attention (Eq. 12), and the span of the window with it. Before that, features of a frame
depend on the frame alone, and features of a segment, before the recurrence, on its events alone. Only where a segment
begins and ends depends on the window's end. Frames come at steady intervals, so that is guessed; where the guess is
wrong by a bin, the events are counted again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.engines import Engine, Job, PartEngine
from nire.integral.double_integral import DoubleIntegral
from nire.network.config import NetworkConfig
from nire.network.ranges import image_ranges, segment_ranges
from nire.types import ContentWindow, Frame, Geometry
from nire.voxels import VoxelGrid, observed_bins


@dataclass(slots=True, eq=False)
class Captured:
    """A captured frame, decoded.

    Attributes:
        frame: as it came.
        light: float32 [C, H, W], linear light in levels 0..255.
        encoded: [1, 1, 1, height, width], as the network takes it.
        features: what the engine made of `encoded`; None until it did.
    """

    frame: Frame
    light: Tensor
    encoded: Tensor
    features: Any = None


class Captures:
    """The frames of the newest windows, each decoded once, and encoded once."""

    def __init__(self, decode: Callable[[Frame], Captured]) -> None:
        """Keep nothing yet; `decode` makes a frame's entry, without features."""
        self._decode = decode
        self._known: list[Captured] = []

    def of(self, frames: Sequence[Frame]) -> list[Captured]:
        """Look frames up; those that are not asked for are forgotten but for the newest."""
        found = [self._entry(frame) for frame in frames]
        kept = [entry for entry in self._known[-1:] if entry not in found]
        self._known = [*kept, *found]
        return found

    def _entry(self, frame: Frame) -> Captured:
        return next((entry for entry in self._known if entry.frame is frame), None) or self._decode(frame)


class Forecast:
    """Guesses where a window will end: as long after its start as those before it, where they were of one length."""

    def __init__(self, tolerance_us: int) -> None:
        """Take lengths that differ by less than `tolerance_us` for one."""
        self._tolerance_us = tolerance_us
        self._t0_us: int | None = None
        self._length_us = 0
        self._steady = False

    def learn(self, window: ContentWindow) -> None:
        """Be told of a complete window."""
        length_us = window.t1_us - window.t0_us
        # A window that grows at a live edge keeps its start: its length says nothing.
        moved = self._t0_us is not None and window.t0_us != self._t0_us
        self._steady = moved and abs(length_us - self._length_us) < self._tolerance_us
        self._t0_us, self._length_us = window.t0_us, length_us

    def end_us(self, window: ContentWindow) -> int | None:
        """Guess the end of a window that has begun; None where nothing speaks for a guess."""
        end_us = window.t0_us + self._length_us
        return end_us if self._steady and end_us >= window.t1_us else None


class RollingContent:
    """One window at a time, as it arrives: its double integral, its voxels, the features of its whole segments.

    A window that extends the one taken last costs what is new in it, and gives what it would give if it were built
    from nothing.

    Attributes:
        integral: of the window.
    """

    def __init__(self, geometry: Geometry, network: Engine, config: NetworkConfig, *, job: Job, bin_us: int) -> None:
        """Make nothing yet; arguments as those of `NeuralReconstructor`."""
        self.integral = DoubleIntegral(bin_us, job.device)
        self._network = network
        self._config = config
        self._device = job.device
        self._padded = (job.height, job.width)
        self._voxels = VoxelGrid(geometry, config.segments * config.bins, bin_us, job.device)
        self._segments: list[tuple[NDArray[np.float64], Any]] = []

    def leads_to(self, window: ContentWindow) -> bool:
        """Tell whether a window extends the one taken last, so that `build` only goes on."""
        return self.integral.leads_to(window)

    def ahead(self, window: ContentWindow, captured: Sequence[Captured], end_us: int | None) -> bool:
        """Do what can be done for a window that is not complete, but no more than one call of the network.

        Args:
            window: as far as it has arrived; no earlier event may come.
            captured: its frames.
            end_us: where it will end, as far as can be told; None = nobody knows.

        Returns:
            True where more can be done with what has arrived.
        """
        extends = self.leads_to(window)
        self.integral.ahead(window)
        if end_us is not None:
            self._count(window, self._voxels.edges_of(window.t0_us, end_us), extends=extends)
        elif not extends:
            self._forget()
        if not isinstance(self._network, PartEngine):
            return False
        waiting = [entry for entry in captured if entry.features is None]
        if waiting:
            waiting[0].features = self._network.encode_images(waiting[0].encoded)
        elif self._is_next_whole(window):
            row = self._observed(window)[len(self._segments)]
            self._segments.append((row, self._encoded(window, len(self._segments), row)))
        return len(waiting) > 1 or self._is_next_whole(window)

    def build(self, window: ContentWindow, captured: Sequence[Captured], light: Sequence[Tensor]) -> Any:
        """Build the content of a complete window, from what is there of it.

        Args:
            window: with as many frames as `captured`, or with a stand-in where there is none.
            captured: its frames, 0 to 2.
            light: what the double integral starts from, one per frame of `window`.

        Returns:
            The engine's content.
        """
        extends = self.leads_to(window)
        self.integral.build(window, light)
        self._count(window, self._voxels.edges_of(window.t0_us, window.t1_us), extends=extends)
        ranges = (
            self._tensor(image_ranges(window, self._padded)[: len(captured)])[None],
            self._tensor(segment_ranges(window, self._voxels.edges_us, self._config.segments))[None],
        )
        observed = self._observed(window)
        if not isinstance(self._network, PartEngine):
            images = torch.cat([self._no_images(), *(entry.encoded for entry in captured)], dim=1)
            voxels = self._changes(window, 0, self._config.segments)
            return self._network.build(images, voxels, *ranges, self._tensor(observed)[None])
        for entry in captured:
            if entry.features is None:
                entry.features = self._network.encode_images(entry.encoded)
        return self._network.construct(self._all_segments(window, observed), [e.features for e in captured], *ranges)

    def _count(self, window: ContentWindow, edges_us: NDArray[np.int64], *, extends: bool) -> None:
        if not extends or not np.array_equal(edges_us, self._voxels.edges_us):
            self._forget()
            self._voxels.begin(edges_us)
        self._voxels.take(window.events, window.calibration)

    def _forget(self) -> None:
        self._segments = []
        self._voxels.begin(np.empty(0, np.int64))

    def _is_next_whole(self, window: ContentWindow) -> bool:
        """Tell whether there is a next segment to encode, with all of its events."""
        edges_us, k = self._voxels.edges_us, len(self._segments)
        there = k < self._config.segments and len(edges_us) > 0
        return there and bool(window.t1_us >= edges_us[(k + 1) * self._config.bins])

    def _all_segments(self, window: ContentWindow, observed: NDArray[np.float64]) -> list[Any]:
        """Give the features of all segments; what was not encoded, or is not what was observed, is encoded now."""
        known = 0
        while known < len(self._segments) and np.array_equal(self._segments[known][0], observed[known]):
            known += 1
        features = [made for _, made in self._segments[:known]]
        # One by one, late or not: kernels may round otherwise when they have several to do.
        return features + [self._encoded(window, k, observed[k]) for k in range(known, self._config.segments)]

    def _encoded(self, window: ContentWindow, k: int, observed: NDArray[np.float64]) -> Any:
        assert isinstance(self._network, PartEngine)
        return self._network.encode_segments(self._changes(window, k, k + 1), self._tensor(observed)[None, None])

    def _changes(self, window: ContentWindow, first: int, stop: int) -> Tensor:
        """Give the voxels of some segments: float32 [1, stop - first, B, height, width]."""
        bins = self._config.bins
        change = self._voxels.change(window.calibration, slice(first * bins, stop * bins), self._padded)
        return change.view(1, stop - first, bins, *self._padded)

    def _observed(self, window: ContentWindow) -> NDArray[np.float64]:
        return observed_bins(window.gaps, self._voxels.edges_us).reshape(self._config.segments, -1)

    def _no_images(self) -> Tensor:
        return torch.zeros((1, 0, 1, *self._padded), device=self._device)

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self._device)
