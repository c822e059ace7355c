"""What part of the time each of several sessions may take."""

from __future__ import annotations

import pytest

from stream.session.budget import Budget
from stream.session.shares import Shares
from stream.windows.cut import Cut
from tests.nire.windows import random_events, random_frame, window_of

SECOND_NS = 1_000_000_000


def spend(shares: Shares, second: int, **taken_ns: int) -> None:
    """Let each session take so much of a second."""
    for name, ns in taken_ns.items():
        shares.spent(name, ns, (second + 1) * SECOND_NS - 1)
    shares.spent(next(iter(taken_ns)), 0, (second + 1) * SECOND_NS)


def test_session_alone_has_all_the_time_whatever_it_takes() -> None:
    shares = Shares([""], 0)
    spend(shares, 0, **{"": SECOND_NS})
    assert shares.of("") == 1


def test_session_may_take_what_the_others_leave_and_at_least_its_part() -> None:
    shares = Shares(["left", "right"], 0)
    assert (shares.of("left"), shares.of("right")) == (1, 1)
    spend(shares, 0, left=SECOND_NS // 5, right=SECOND_NS // 10)
    assert (shares.of("left"), shares.of("right")) == pytest.approx((0.9, 0.8))
    spend(shares, 1, left=SECOND_NS, right=SECOND_NS // 10)
    assert (shares.of("left"), shares.of("right")) == pytest.approx((0.9, 0.5))


def test_part_is_given_back_to_those_that_are_left() -> None:
    shares = Shares(["left", "right"], 0)
    spend(shares, 0, left=SECOND_NS // 2, right=SECOND_NS // 2)
    assert shares.of("right") == 0.5
    spend(shares, 1, left=0, right=SECOND_NS // 2)
    assert shares.of("right") == 1


def test_window_answers_as_much_as_its_share_of_the_time_allows() -> None:
    frames = random_frame(0, 0, 0, 10_000), random_frame(1, 1, 40_000, 50_000)
    window = window_of(frames, random_events(2, 10, 0, 50_000))
    cut = Cut(policy="pair")
    kept = {}
    for share in (1.0, 0.5, 0.25):
        budget = Budget(lambda share=share: share)
        budget.spent(build_ns=0, expose_ns=40_000_000, queries=20)
        kept[share] = len(budget.chosen(20, window, cut, time_budget_ms=0))
    assert kept == {1.0: 20, 0.5: 10, 0.25: 5}
