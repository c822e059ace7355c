"""How long ramps towards events are: against their definition, event by event, and against what a sweep takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nire.integral.sweep import Sweep
from nire.ramps import RAMP_SHARE, ramp_lengths
from nire.types import ContentWindow, EventBatch, Gap, Geometry

GEOMETRY = Geometry(7, 5)
SPAN_US = 40_000
REACH_US = RAMP_SHARE * SPAN_US
GAPS = (Gap(9_000, 11_000, "lost"), Gap(30_000, 30_500, "lost"))


def some_events(gaps: tuple[Gap, ...]) -> EventBatch:
    rng = np.random.default_rng(5)
    t_us = np.sort(rng.integers(0, SPAN_US, 300))
    t_us[50] = t_us[51]
    kept = np.ones(len(t_us), np.bool_)
    for gap in gaps:
        kept &= (t_us < gap.t0_us) | (t_us >= gap.t1_us)
    x, y = rng.integers(0, GEOMETRY.width, 300), rng.integers(0, GEOMETRY.height, 300)
    events = EventBatch(t_us, x.astype(np.uint16), y.astype(np.uint16), (x % 2).astype(np.uint8), SPAN_US)
    return events.part(kept)


def length_by_definition(events: EventBatch, k: int, gaps: tuple[Gap, ...]) -> float:
    """Look at all other events of the pixel of event k."""
    t_us, own = events.t_us, (events.x == events.x[k]) & (events.y == events.y[k])
    before, after = np.flatnonzero(own[:k]), k + 1 + np.flatnonzero(own[k + 1 :])
    ends_us = [gap.t1_us for gap in gaps]
    limits = [REACH_US, *(float(t_us[k] - end_us) for end_us in ends_us if end_us <= t_us[k])]
    if len(before):
        limits.append(float(t_us[k] - t_us[before[-1]]))
    if len(after) and not any(t_us[k] < end_us <= t_us[after[0]] for end_us in ends_us):
        limits.append((t_us[after[0]] - t_us[k]) / 2)
    return min(limits)


@pytest.mark.parametrize("gaps", [(), GAPS])
def test_ramps_are_as_long_as_their_definition_says(gaps: tuple[Gap, ...]) -> None:
    events = some_events(gaps)
    expected = [length_by_definition(events, k, gaps) for k in range(len(events))]
    np.testing.assert_array_equal(ramp_lengths(events, GEOMETRY.width, REACH_US, gaps), expected)
    assert 0 < np.count_nonzero(np.array(expected) == REACH_US) < len(events)


@pytest.mark.parametrize("gaps", [(), GAPS])
def test_a_sweep_has_the_same_ramps(gaps: tuple[Gap, ...]) -> None:
    events = some_events(gaps)
    sweep = Sweep(1_000, torch.device("cpu"))
    sweep.take(ContentWindow(0, 0, SPAN_US, (), events, GEOMETRY, gaps))
    _, t_us, leads_us, _ = sweep.events_of(np.array([-1.0]), np.array([float(SPAN_US)]))
    np.testing.assert_array_equal(t_us, events.t_us)
    # A sweep halves whole microseconds.
    lengths_us = ramp_lengths(events, GEOMETRY.width, REACH_US, gaps)
    np.testing.assert_allclose(np.minimum(leads_us, REACH_US), lengths_us, atol=0.5)


def test_no_events_have_no_ramps() -> None:
    assert ramp_lengths(EventBatch.empty(0), 7, REACH_US, GAPS).shape == (0,)
