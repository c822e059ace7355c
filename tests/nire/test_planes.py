"""Event planes: integer counts, the same for any splitting and order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nire.planes import EventPlanes, bin_events
from nire.types import EventBatch
from tests.nire.windows import GEOMETRY, random_events


def counted_one_by_one(events: EventBatch, first_bin: int, bins: int, bin_us: int) -> NDArray[np.int64]:
    counts = np.zeros((bins, 2, GEOMETRY.height, GEOMETRY.width), np.int64)
    for t, x, y, p in zip(events.t_us, events.x, events.y, events.p, strict=True):
        k = int(t) // bin_us - first_bin
        if 0 <= k < bins:
            counts[k, p, y, x] += 1
    return counts


def slice_of(events: EventBatch, low: int, high: int) -> EventBatch:
    return EventBatch(events.t_us[low:high], events.x[low:high], events.y[low:high], events.p[low:high], 0)


@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 400),
    t0_us=st.integers(-3000, 3000),
    span_us=st.integers(1, 5000),
    bin_us=st.sampled_from([10, 137, 500]),
)
def test_counts_equal_a_loop_over_events(seed: int, count: int, t0_us: int, span_us: int, bin_us: int) -> None:
    events = random_events(seed, count, -4000, 9000)
    planes = bin_events(events, t0_us, t0_us + span_us, geometry=GEOMETRY, bin_us=bin_us)
    expected = counted_one_by_one(events, planes.t0_us // bin_us, planes.bins, bin_us)
    np.testing.assert_array_equal(planes.counts.numpy(), expected)


@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 500), max_size=6), shuffle=st.randoms())
def test_any_splitting_and_order_of_the_batches_gives_the_same_planes(seed, cuts, shuffle) -> None:
    events = random_events(seed, 500, 0, 10_000)
    edges = sorted({0, 500, *cuts})
    pieces = [slice_of(events, a, b) for a, b in itertools.pairwise(edges)]
    shuffle.shuffle(pieces)
    planes = EventPlanes(GEOMETRY, 500)
    planes.reset(0, 10_000)
    assert sum(planes.add(piece) for piece in pieces) == 500
    whole = bin_events(events, 0, 10_000, geometry=GEOMETRY, bin_us=500)
    assert torch.equal(planes.counts, whole.counts)


def test_chunked_counting_equals_counting_at_once() -> None:
    events = random_events(1, 130_000, 0, 40_000)
    planes = bin_events(events, 0, 40_000, geometry=GEOMETRY, bin_us=500)
    index = (events.t_us // 500, events.p, events.y, events.x)
    expected = np.zeros(planes.counts.shape, np.int64)
    np.add.at(expected, index, 1)
    np.testing.assert_array_equal(planes.counts.numpy(), expected)


def test_reset_empties_memory_that_was_used_before() -> None:
    planes = EventPlanes(GEOMETRY, 500)
    planes.reset(0, 10_000)
    planes.add(random_events(1, 300, 0, 10_000))
    planes.reset(2000, 6000)
    assert planes.bins == 8
    assert int(planes.counts.sum()) == 0


def test_ignored_pixels_are_not_counted() -> None:
    events = random_events(1, 2000, 0, 5000)
    ignore = np.zeros((GEOMETRY.height, GEOMETRY.width), bool)
    ignore[:4] = True
    planes = EventPlanes(GEOMETRY, 500)
    planes.reset(0, 5000)
    assert planes.add(events, ignore=ignore) == int((events.y >= 4).sum())
    assert int(planes.counts[:, :, :4].sum()) == 0


def test_empty_span_is_refused() -> None:
    with pytest.raises(ValueError, match="t1_us > t0_us"):
        EventPlanes(GEOMETRY, 500).reset(1000, 1000)
