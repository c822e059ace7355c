"""Which film/shutter pairs a plan asks of a window."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from nire.types import ContentWindow
from stream.config_sections import PlanConfig
from stream.session.plan import policy_of, queries_of, reach_us
from tests.nire.windows import random_events, random_frame, window_of
from tests.stream import packets
from tests.stream.windows.test_assembler import windows_of


def single(row_delay_us: float = 0.0) -> ContentWindow:
    frame = random_frame(1, 0, 100_000, 120_000, row_delay_us=row_delay_us)
    return replace(window_of((frame,), random_events(2, 10, 90_000, 130_000)), covered_us=(95_000.0, 126_000.0))


def mids(plan: PlanConfig) -> list[float]:
    windows = windows_of(packets.usual(), "pair")
    return [q.shutter.mid_us for window in windows for q in queries_of(window, plan)]


def test_deblur_asks_for_the_middle_of_the_exposure_and_keeps_the_rows_delay() -> None:
    (query,) = queries_of(single(30.0), PlanConfig(name="deblur"))
    np.testing.assert_allclose(query.shutter.t_a_us, 110_000 + 30.0 * np.arange(9))
    assert query.shutter.is_instant
    assert query.tag == "deblur"


def test_deblur_with_offset_and_width() -> None:
    (query,) = queries_of(single(), PlanConfig(name="deblur", offset_us=4000, exposure_us=1000))
    assert (query.shutter.first_us, query.shutter.last_us) == (113_500, 114_500)


def test_unroll_asks_for_one_instant_of_all_rows_at_the_middle_row() -> None:
    (query,) = queries_of(single(30.0), PlanConfig(name="unroll"))
    assert query.shutter.is_flat
    assert query.shutter.first_us == 110_000 + 30.0 * 4


@pytest.mark.parametrize("rate_hz", [30.0, 400.0, 333.0, 1000.0])
def test_upsampling_asks_for_every_instant_of_the_grid_once_across_windows(rate_hz: float) -> None:
    asked = mids(PlanConfig(name="upsample", rate_hz=rate_hz))
    period_us = 1e6 / rate_hz
    steps = np.round(np.array(asked) / period_us).astype(int)
    np.testing.assert_allclose(asked, steps * period_us)
    assert (np.diff(steps) == 1).all()
    start, end = packets.START_US, packets.START_US + 5 * packets.PERIOD_US + packets.EXPOSURE_US
    assert asked[0] - period_us < start <= asked[0]
    assert asked[-1] <= end < asked[-1] + period_us


def test_grid_stays_exact_at_unix_times() -> None:
    base_us = 1_700_000_000_000_000
    stream = [
        replace(p, exposure_start_us=p.exposure_start_us + base_us, exposure_end_us=p.exposure_end_us + base_us)
        if hasattr(p, "pixels")
        else replace(p, t_us=p.t_us + base_us, watermark_us=p.watermark_us + base_us)
        for p in packets.usual()
    ]
    asked = [q.shutter.mid_us for w in windows_of(stream, "pair") for q in queries_of(w, PlanConfig(rate_hz=1000))]
    assert [b - a for a, b in itertools.pairwise(asked)] == [1000.0] * (len(asked) - 1)


def test_reshutter_centres_a_rolling_shutter_on_the_grid() -> None:
    plan = PlanConfig(name="reshutter", rate_hz=100, exposure_us=4000, row_delay_us=20)
    (query, *_) = [q for w in windows_of(packets.usual(), "pair") for q in queries_of(w, plan)]
    assert query.shutter.row_delay_us == 20
    assert query.shutter.mid_us % 10_000 == 0
    assert query.shutter.t_b_us[0] - query.shutter.t_a_us[0] == 4000


def test_shutters_that_are_not_covered_are_left_out() -> None:
    assert queries_of(single(), PlanConfig(name="deblur", offset_us=50_000)) == []


def test_policy_follows_the_plan_unless_it_is_set() -> None:
    assert policy_of(PlanConfig(name="deblur"), "auto", has_frames=True) == "single"
    assert policy_of(PlanConfig(name="upsample"), "auto", has_frames=True) == "pair"
    assert policy_of(PlanConfig(name="upsample"), "auto", has_frames=False) == "span"
    assert policy_of(PlanConfig(name="upsample"), "live_edge", has_frames=True) == "live_edge"


def test_only_what_the_plan_reaches_after_a_frame_is_waited_for() -> None:
    assert reach_us(PlanConfig(name="deblur"), height=260, margin_us=5000) == 0
    assert reach_us(PlanConfig(name="deblur", offset_us=12_000), height=260, margin_us=5000) == 5000
    assert reach_us(PlanConfig(name="upsample", exposure_us=3000), height=260, margin_us=5000) == 1500
