"""What windows go on from: told in order, whoever builds them, and whenever."""

from __future__ import annotations

import threading

import pytest
import torch

from nire.explicit.rolled import MOST_AGE, Rolled
from nire.types import ContentWindow, Frame, Gap
from tests.nire.windows import random_events, random_frame, window_of

LIMIT_S = 60.0
LIGHT = torch.ones(2, 2)


def frames(count: int) -> list[Frame]:
    return [random_frame(n, n, 40_000 * n, 40_000 * n + 10_000) for n in range(count)]


def pairs(images: list[Frame], gap_in: int | None = None) -> list[ContentWindow]:
    events = random_events(1, 100, 0, 40_000 * len(images))
    made = [window_of(tuple(images[n : n + 2]), events) for n in range(len(images) - 1)]
    if gap_in is not None:
        made[gap_in] = window_of(made[gap_in].frames, events, gaps=(Gap(0, 1, "lost"),))
    return made


def told(windows: list[ContentWindow]) -> Rolled:
    rolled = Rolled()
    for window in windows:
        rolled.expect(window)
    return rolled


def test_each_window_goes_on_from_the_one_before_it() -> None:
    first, second = pairs(frames(3))
    rolled = told([first, second])
    assert rolled.before(first) is None
    rolled.built(first, LIGHT, 7.0)
    past = rolled.before(second)
    assert past is not None
    assert (past.light is LIGHT, past.t_us, past.age) == (True, 7.0, 1)


def test_age_counts_windows_up_to_a_limit() -> None:
    windows = pairs(frames(MOST_AGE + 3))
    rolled = told(windows)
    ages = []
    for window in windows:
        past = rolled.before(window)
        ages.append(0 if past is None else past.age)
        rolled.built(window, LIGHT)
    assert ages == [*range(MOST_AGE + 1), MOST_AGE]


def test_window_that_is_built_later_waits_for_the_one_before_it() -> None:
    first, second = pairs(frames(3))
    rolled = told([first, second])
    found = []
    waiting = threading.Thread(target=lambda: found.append(rolled.before(second)))
    waiting.start()
    assert found == []
    rolled.built(first, LIGHT)
    waiting.join(LIMIT_S)
    assert [past.light is LIGHT for past in found] == [True]


def test_window_after_one_that_could_not_be_built_begins_anew() -> None:
    first, second = pairs(frames(3))
    rolled = told([first, second])
    rolled.built(first, None)
    assert rolled.before(second) is None


def test_gap_forgets_and_what_comes_after_it_goes_on_from_it() -> None:
    windows = pairs(frames(4), gap_in=1)
    rolled = told(windows)
    rolled.built(windows[0], LIGHT)
    rolled.built(windows[1], LIGHT, 9.0)
    assert rolled.before(windows[1]) is None
    past = rolled.before(windows[2])
    assert past is not None
    assert past.t_us == 9.0


def test_window_of_the_same_frames_as_the_newest_goes_on_from_the_same() -> None:
    images = frames(3)
    first, second = pairs(images)
    again = window_of(second.frames, second.events)
    rolled = told([first, second, again])
    rolled.built(first, LIGHT, 3.0)
    assert rolled.before(again) is rolled.before(second)


@pytest.mark.parametrize("later", [LIGHT * 2, None])
def test_what_was_built_first_counts(later: torch.Tensor | None) -> None:
    first, second = pairs(frames(3))
    rolled = told([first, second])
    rolled.built(first, LIGHT)
    rolled.expect(first)
    rolled.built(first, later)
    past = rolled.before(second)
    assert past is not None
    assert past.light is LIGHT
