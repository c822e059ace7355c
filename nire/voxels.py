"""Voxel grids: a window's events, shared out to the network's M x B bins as they arrive (paper Sec. 4.1)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.integral import loops as plane_loops
from nire.planes import EventPlanes, bins_of
from nire.types import Calibration, EventBatch, Gap, Geometry


class VoxelGrid:
    """The bins of one window at a time. Events are counted once, straight into the bin that they belong to.

    Where the bins lie depends on where the window ends. Whoever knows that early, or guesses it, counts early.

    Attributes:
        edges_us: int64 [bins + 1], event time; empty where no window was begun.
    """

    def __init__(self, geometry: Geometry, bins: int, bin_us: int, device: torch.device | str = "cpu") -> None:
        """Prepare for a sensor; `begin` before use.

        Args:
            geometry: of the sensor.
            bins: of a window, M x B.
            bin_us: width of a bin of the absolute time grid, on which all edges lie.
            device: torch device of the counts.
        """
        self.edges_us: NDArray[np.int64] = np.empty(0, np.int64)
        self._bins = bins
        self._planes = EventPlanes(geometry, bin_us, device)
        self._taken = 0
        self._change = torch.empty(0, device=device)

    def edges_of(self, t0_us: int, t1_us: int) -> NDArray[np.int64]:
        """Lay the bins of a window [t0_us, t1_us) out, as evenly as the grid allows: int64 [bins + 1], event time.

        Raises:
            ValueError: the span is empty.
        """
        bin_us = self._planes.bin_us
        first, last = bins_of(t0_us, t1_us, bin_us)
        steps = np.round(np.linspace(0, last - first, self._bins + 1)).astype(np.int64)
        edges_us: NDArray[np.int64] = (first + steps) * bin_us
        return edges_us

    def begin(self, edges_us: NDArray[np.int64]) -> None:
        """Begin a window with no event counted, and with these edges."""
        self.edges_us = edges_us
        self._planes.reset_to(edges_us)
        self._taken = 0

    def take(self, events: EventBatch, calibration: Calibration) -> None:
        """Count the events of the window that are new.

        Args:
            events: of the window so far; each call gives those of the call before, and more.
            calibration: its hot pixels are left out.
        """
        self._planes.add(events.part(slice(self._taken, None)), ignore=calibration.hot_pixels)
        self._taken = len(events)

    def change(self, calibration: Calibration, bins: slice, padded: tuple[int, int]) -> Tensor:
        """Sum up what events did to the logarithm of light.

        Args:
            calibration: its thresholds are what events stand for.
            bins: which.
            padded: height and width of the result; what lies beyond the sensor is 0.

        Returns:
            float32 [bins, height, width], signed; valid until the next call.
        """
        counts = self._planes.counts[bins]
        if self._change.shape != (len(counts), *padded):
            # What lies beyond the sensor is never written, and stays 0.
            self._change = torch.zeros((len(counts), *padded), device=counts.device)
        change = self._change
        darker, brighter = calibration.threshold_negative, calibration.threshold_positive
        if plane_loops.serve(change):
            plane_loops.weigh_counts(change.numpy(), counts.numpy(), darker, brighter)
            return change
        seen = change[:, : counts.shape[2], : counts.shape[3]]
        torch.mul(counts[:, 1], brighter, out=seen)
        seen.sub_(counts[:, 0] * darker)
        return change


def observed_bins(gaps: tuple[Gap, ...], edges_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """Tell which bins were observed: [bins], 0 where gaps cover more than half of one, else 1.

    Args:
        gaps: event time.
        edges_us: [bins + 1], event time.
    """
    missing_us = np.zeros(len(edges_us) - 1)
    for gap in gaps:
        low, high = (np.clip(t_us, edges_us[:-1], edges_us[1:]) for t_us in (gap.t0_us, gap.t1_us))
        missing_us += high - low
    return (missing_us <= 0.5 * np.diff(edges_us)).astype(np.float64)
