"""Voxel grids: straight into the network's bins, in pieces, and the same as sums of planes of the absolute grid."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nire.planes import bin_events
from nire.types import Calibration, EventBatch, Gap
from nire.voxels import VoxelGrid, observed_bins
from tests.nire.windows import GEOMETRY, random_events

BINS = 16
PADDED = (GEOMETRY.height + 3, GEOMETRY.width + 4)


def summed(events: EventBatch, t0_us: int, t1_us: int, calibration: Calibration) -> torch.Tensor:
    """Sum planes one bin wide: what a voxel grid is by definition."""
    kept = events
    if calibration.hot_pixels is not None:
        cold = ~calibration.hot_pixels[events.y, events.x]
        kept = EventBatch(events.t_us[cold], events.x[cold], events.y[cold], events.p[cold], 0)
    planes = bin_events(kept, t0_us, t1_us, geometry=GEOMETRY, bin_us=500)
    edges = np.round(np.linspace(0, planes.bins, BINS + 1)).astype(int)
    sums = [planes.counts[a:b].sum(0, dtype=torch.int32) for a, b in itertools.pairwise(edges)]
    counts = torch.stack(sums).float()
    return counts[:, 1] * calibration.threshold_positive - counts[:, 0] * calibration.threshold_negative


@given(
    seed=st.integers(0, 99),
    t0_us=st.integers(-900, 900),
    span_us=st.sampled_from([400, 3_000, 40_000, 65_123]),
    cuts=st.lists(st.integers(0, 900), max_size=4),
)
def test_grid_that_is_filled_in_pieces_equals_sums_of_planes(
    seed: int, t0_us: int, span_us: int, cuts: list[int]
) -> None:
    hot = np.random.default_rng(seed).random((GEOMETRY.height, GEOMETRY.width)) < 0.1
    calibration = Calibration(0.21, 0.33, hot_pixels=hot if seed % 2 else None)
    events = random_events(seed, 900, t0_us, t0_us + span_us)
    grid = VoxelGrid(GEOMETRY, BINS, 500)
    for _ in range(2):  # what was counted for a window before is gone
        grid.begin(grid.edges_of(t0_us, t0_us + span_us))
        for end in (*sorted(cuts), len(events)):
            part = slice(0, end)
            grid.take(replace(events, **{n: getattr(events, n)[part] for n in ("t_us", "x", "y", "p")}), calibration)
    change = grid.change(calibration, slice(0, BINS), PADDED).clone()
    expected = summed(events, t0_us, t0_us + span_us, calibration)
    assert torch.equal(change[:, : GEOMETRY.height, : GEOMETRY.width], expected)
    assert change.shape == (BINS, *PADDED)
    assert float(change.abs().sum()) == pytest.approx(float(expected.abs().sum()))
    assert torch.equal(grid.change(calibration, slice(4, 8), PADDED), change[4:8])


def test_edges_lie_on_the_absolute_grid_and_around_the_window() -> None:
    edges_us = VoxelGrid(GEOMETRY, BINS, 500).edges_of(1_600_000_000_000_301, 1_600_000_000_065_301)
    assert len(edges_us) == BINS + 1
    assert (edges_us % 500 == 0).all()
    assert (edges_us[0], edges_us[-1]) == (1_600_000_000_000_000, 1_600_000_000_065_500)
    assert set(np.diff(edges_us).tolist()) <= {4000, 4500}


def test_empty_window_is_refused() -> None:
    with pytest.raises(ValueError, match="t1_us > t0_us"):
        VoxelGrid(GEOMETRY, BINS, 500).edges_of(1000, 1000)


def test_bin_that_a_gap_covers_by_more_than_half_was_not_observed() -> None:
    edges_us = np.array([0, 1000, 2000, 3000])
    assert observed_bins((Gap(400, 1500, "a hole"),), edges_us).tolist() == [0.0, 1.0, 1.0]
    assert observed_bins((Gap(400, 1500, "a hole"), Gap(1900, 1950, "one more")), edges_us).tolist() == [0.0, 0.0, 1.0]
    assert observed_bins((), edges_us).tolist() == [1.0, 1.0, 1.0]
