"""Event planes: events counted per polarity, pixel and bin of an absolute time grid; voxel grids are their sums."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.integral import loops as plane_loops
from nire.types import EventBatch, Geometry


class EventPlanes:
    """Counts of events in the bins of an absolute time grid, or in runs of them, filled in any order and splitting.

    The memory is kept and reused, because touching fresh pages costs more than counting.

    Attributes:
        counts: int16 [bins, 2, H, W]; axis 1 is polarity, 0 darker, 1 brighter. Plane k of it holds the events with
            `edges_us[k] <= t_us < edges_us[k + 1]`. A pixel that fires over 32,767 times in one plane would wrap
            around; no sensor comes near (at 500 us that is 65 MHz).
        edges_us: int64 [bins + 1], ascending, multiples of `bin_us`.
        bin_us: width of a bin, microseconds.
    """

    counts: Tensor
    edges_us: NDArray[np.int64]
    bin_us: int

    def __init__(self, geometry: Geometry, bin_us: int, device: torch.device | str = "cpu") -> None:
        """Prepare for a sensor; `reset` or `reset_to` before use.

        Args:
            geometry: of the sensor.
            bin_us: > 0.
            device: torch device of the counts.
        """
        if bin_us <= 0:
            raise ValueError(f"bin_us must be positive, got {bin_us}")
        self.bin_us = bin_us
        self.edges_us = np.zeros(1, np.int64)
        self._height, self._width = geometry.height, geometry.width
        self._cells = 2 * geometry.height * geometry.width
        self._device = torch.device(device)
        self._memory = torch.zeros((0, self._cells), dtype=torch.int16, device=self._device)
        self._one = torch.ones(1, dtype=torch.int16, device=self._device)
        self.counts = self._shaped(0)

    @property
    def t0_us(self) -> int:
        """Start of the first bin."""
        return int(self.edges_us[0])

    @property
    def bins(self) -> int:
        """Number of planes."""
        return int(self.counts.shape[0])

    def reset(self, t0_us: int, t1_us: int) -> None:
        """Empty the planes and let them span the bins that touch [t0_us, t1_us).

        Raises:
            ValueError: the span is empty.
        """
        first, last = bins_of(t0_us, t1_us, self.bin_us)
        self.reset_to(np.arange(first, last + 1, dtype=np.int64) * self.bin_us)

    def reset_to(self, edges_us: NDArray[np.int64]) -> None:
        """Empty the planes and let each span a run of bins.

        Args:
            edges_us: int64 [planes + 1], ascending; where two are the same, a plane stays empty.
        """
        self.edges_us, bins = edges_us, len(edges_us) - 1
        if self._memory.shape[0] < bins:
            self._memory = torch.zeros((bins, self._cells), dtype=torch.int16, device=self._device)
        else:
            self._memory[:bins].zero_()
        self.counts = self._shaped(bins)

    def add(self, events: EventBatch, ignore: NDArray[np.bool_] | None = None) -> int:
        """Count events.

        Args:
            events: sorted in time, inside the sensor; those outside the span are left out.
            ignore: bool [H, W], pixels whose events are left out (hot pixels).

        Returns:
            How many were counted.
        """
        edges = np.searchsorted(events.t_us, self.edges_us)
        if plane_loops.serve(self._memory, dtype=torch.int16):
            ignored = np.empty((0, 0), np.bool_) if ignore is None else ignore
            return plane_loops.count(self.counts.numpy(), (events.x, events.y, events.p), edges, ignored)
        # Events are sorted, so those of a bin are a run: no division per event.
        inside = slice(int(edges[0]), int(edges[-1]))
        cells = np.repeat(np.arange(self.bins) * self._cells, np.diff(edges))
        cells += np.multiply(events.p[inside], self._cells // 2, dtype=np.int64)
        cells += np.multiply(events.y[inside], self._width, dtype=np.int64)
        cells += events.x[inside]
        kept = cells if ignore is None else cells[~ignore[events.y[inside], events.x[inside]]]
        index = torch.from_numpy(kept).to(self._device, non_blocking=True)
        self._memory.view(-1).scatter_add_(0, index, self._one.expand(len(kept)))
        return len(kept)

    def _shaped(self, bins: int) -> Tensor:
        return self._memory[:bins].view(bins, 2, self._height, self._width)


def bins_of(t0_us: int, t1_us: int, bin_us: int) -> tuple[int, int]:
    """Find the bins of the absolute grid that touch [t0_us, t1_us): the first, and the one after the last.

    Raises:
        ValueError: the span is empty.
    """
    if t1_us <= t0_us:
        raise ValueError(f"event planes need t1_us > t0_us, got [{t0_us}, {t1_us})")
    return t0_us // bin_us, -(-t1_us // bin_us)


def bin_events(events: EventBatch, t0_us: int, t1_us: int, *, geometry: Geometry, bin_us: int) -> EventPlanes:
    """Count one batch over [t0_us, t1_us) in fresh planes on the CPU."""
    planes = EventPlanes(geometry, bin_us)
    planes.reset(t0_us, t1_us)
    planes.add(events)
    return planes
