"""How many queries of a window are answered where there is not time for all."""

from __future__ import annotations

import pytest

from nire.types import ContentWindow
from stream.session.budget import Budget
from stream.windows.cut import Cut
from tests.nire.windows import random_events, random_frame, window_of

PAIR = Cut(policy="pair")
PERIOD_MS = 40
WANTED = 40


def pair_of_frames(period_ms: int = PERIOD_MS) -> ContentWindow:
    later_us = 1000 * period_ms
    frames = random_frame(0, 0, 0, 10_000), random_frame(1, 1, later_us, later_us + 10_000)
    return window_of(frames, random_events(2, 10, 0, later_us + 10_000))


def chosen(*, build_ms: float, query_ms: float, time_budget_ms: float = 0, period_ms: int = PERIOD_MS) -> list[int]:
    budget = Budget()
    budget.spent(build_ns=1e6 * build_ms, expose_ns=WANTED * 1e6 * query_ms, queries=WANTED)
    return budget.chosen(WANTED, pair_of_frames(period_ms), PAIR, time_budget_ms=time_budget_ms)


def images_a_period(keep: int, *, build_ms: float, query_ms: float) -> float:
    """Images that one of several windows gives in the mean of those that pass meanwhile."""
    return keep / -(-(build_ms + keep * query_ms) // PERIOD_MS)


@pytest.mark.parametrize(
    ("build_ms", "query_ms", "kept"),
    [
        (4, 0.8, 40),  # there is time for all
        (10, 1.5, 20),  # half of them fit, evenly
        (30, 0.8, 12),  # one of two windows would give 20 of each: not twice as many
        (38, 0.8, 40),  # there is time for 2, or for all of every second window
        (74, 0.8, 40),  # two windows pass during a build, and a third while all are exposed
        (900, 0.8, 25),  # so few windows are answered that the rest of one hardly counts
    ],
)
def test_as_many_queries_are_answered_as_give_most_images(build_ms: float, query_ms: float, kept: int) -> None:
    found = chosen(build_ms=build_ms, query_ms=query_ms)
    assert len(found) == kept
    most = max(images_a_period(keep, build_ms=build_ms, query_ms=query_ms) for keep in range(1, WANTED + 1))
    assert images_a_period(kept, build_ms=build_ms, query_ms=query_ms) >= most / 2


def test_those_that_are_left_out_are_spread_evenly() -> None:
    assert chosen(build_ms=10, query_ms=1.5) == list(range(1, WANTED, 2))


def test_time_that_is_set_holds_for_each_window() -> None:
    assert len(chosen(build_ms=74, query_ms=0.8, time_budget_ms=78)) == 5
    assert len(chosen(build_ms=74, query_ms=0.8, time_budget_ms=40)) == 1


def test_frames_at_one_time_leave_one_query_at_least() -> None:
    assert chosen(build_ms=74, query_ms=0.8, period_ms=0)


def test_first_window_is_answered_in_full() -> None:
    assert len(Budget().chosen(WANTED, pair_of_frames(), PAIR, time_budget_ms=0)) == WANTED


@pytest.mark.parametrize(
    ("build_ms", "expose_ms", "at_once"),
    [
        (60, 12, 2),  # a build takes more than there is time for: two beside one another
        (5, 60, 1),  # images do: there will be fewer of them
        (100, 50, 2),  # each of two has twice the time, and is late now and then
        (300, 20, 1),  # hardly any window is answered: it is done sooner alone
    ],
)
def test_windows_are_answered_beside_one_another_where_building_them_takes_longest(
    build_ms: float, expose_ms: float, at_once: int
) -> None:
    budget = Budget(most_at_once=lambda: 2)
    assert budget.at_once == 2  # nothing is known yet
    budget.spent(build_ns=1e6 * build_ms, expose_ns=1e6 * expose_ms, queries=WANTED)
    budget.patience(pair_of_frames(), PAIR)
    assert budget.at_once == at_once
    assert budget.there_ns(period_ns=1.0) == at_once


def test_window_that_is_slow_because_of_another_one_is_not_far_behind() -> None:
    for beside, at_once in ((2, 2), (1, 1)):
        budget = Budget(most_at_once=lambda: 2)
        budget.spent(build_ns=200e6, expose_ns=20e6, queries=WANTED, beside=beside)
        budget.patience(pair_of_frames(), PAIR)
        assert budget.at_once == at_once


def test_other_cameras_leave_less_time_to_be_far_behind_in() -> None:
    budget = Budget(share=lambda: 0.5, most_at_once=lambda: 2)
    budget.spent(build_ns=100e6, expose_ns=0, queries=WANTED)
    budget.patience(pair_of_frames(), PAIR)
    assert budget.at_once == 1


@pytest.mark.parametrize(("build_ms", "is_quick"), [(9, True), (30, False)])
def test_window_that_is_done_long_before_the_next_one_needs_no_thread(build_ms: float, is_quick: bool) -> None:
    budget = Budget()
    assert not budget.is_quick(WANTED, period_ns=1e6 * PERIOD_MS)  # nothing is known yet
    budget.spent(build_ns=1e6 * build_ms, expose_ns=1e6, queries=WANTED)
    assert budget.is_quick(WANTED, period_ns=1e6 * PERIOD_MS) == is_quick
