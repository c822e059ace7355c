"""What comes before the first row that is no event is given, whatever stands behind it."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.event_columns import BadEvent, events_of
from nire.types import EventBatch

COUNT = 50
T, P = np.arange(COUNT) * 1e-5, np.arange(COUNT) % 2 * 2.0 - 1


def _given(t: np.ndarray, p: np.ndarray, **settings: str) -> tuple[list[EventBatch], BadEvent | None]:
    x = np.arange(t.size).astype(np.uint16)
    found: list[EventBatch] = []
    try:
        found.extend(events_of((t, x, x + np.uint16(1), p), unit="s", **{"polarity": "auto", **settings}))  # type: ignore[arg-type]
    except BadEvent as error:
        return found, error
    return found, None


def test_events_of_sound_columns_are_one_batch() -> None:
    (batch,), error = _given(T, P)
    assert error is None
    assert (batch.t_us.tolist(), batch.watermark_us) == ([10 * n for n in range(COUNT)], 490)
    assert (batch.x[3], batch.y[3], batch.p[:4].tolist()) == (3, 4, [0, 1, 0, 1])
    assert _given(T[:0], P[:0]) == ([], None)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e300, 2e12], ids=str)
@pytest.mark.parametrize("at", [0, 1, 30, COUNT - 1])
def test_events_before_a_time_that_is_none_are_given(wrong: float, at: int) -> None:
    t = T.copy()
    t[at] = wrong
    found, error = _given(t, P)
    assert error is not None
    assert (error.index, str(error)) == (at, f"its time is {wrong}")
    assert [batch.t_us.tolist() for batch in found] == [[10 * n for n in range(at)]][: at > 0]


def test_the_first_bad_value_of_any_column_counts() -> None:
    t, p = T.copy(), P.copy()
    t[30], p[[20, 40]] = np.nan, (7, np.nan)
    (batch,), error = _given(t, p)
    assert error is not None
    assert (error.index, len(batch)) == (20, 20)
    assert "its polarity is 7.0, expected 0 and 1, or -1 and 1; set source.settings.polarity" in str(error)
    (batch,), error = _given(t, p, polarity="positive")
    assert error is not None
    assert (error.index, len(batch)) == (30, 30)
