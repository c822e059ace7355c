"""The shutter function (Eqs. 1-4)."""

from __future__ import annotations

import numpy as np
import pytest

from nire.shutter import Shutter


def test_rolling_shutter_delays_each_row_by_alpha() -> None:
    shutter = Shutter.rolling(1000.0, 3000.0, row_delay_us=10.0, height=4)
    np.testing.assert_array_equal(shutter.t_a_us, [1000, 1010, 1020, 1030])
    np.testing.assert_array_equal(shutter.t_b_us, [3000, 3010, 3020, 3030])
    assert shutter.row_delay_us == 10.0
    assert (shutter.first_us, shutter.last_us) == (1000.0, 3030.0)


def test_middle_is_the_middle_of_the_middle_row() -> None:
    assert Shutter.rolling(1000.0, 3000.0, row_delay_us=10.0, height=5).mid_us == 2020.0


def test_instant_is_a_delta_and_flat_is_flat() -> None:
    assert Shutter.instant(5.0, 3).is_instant
    assert Shutter.flat(5.0, 6.0, 3).is_flat
    assert not Shutter.rolling(5.0, 6.0, row_delay_us=1.0, height=3).is_flat


def test_normalised_times_run_from_0_to_1_over_the_window() -> None:
    t_a, t_b = Shutter.flat(150.0, 175.0, 2).normalised(100.0, 200.0)
    np.testing.assert_allclose(t_a, [0.5, 0.5])
    np.testing.assert_allclose(t_b, [0.75, 0.75])
    with pytest.raises(ValueError, match="t1_us > t0_us"):
        Shutter.flat(0.0, 1.0, 2).normalised(5.0, 5.0)


@pytest.mark.parametrize(
    ("t_a", "t_b", "reason"),
    [
        ([2.0], [1.0], "before it opens"),
        ([1.7e308], [-1.7e308], "before it opens"),
        ([np.nan], [1.0], "finite"),
        ([np.inf], [np.inf], "finite"),
        ([-np.inf, 5.0], [1.0, 6.0], "finite"),
        ([np.inf, 5.0], [np.inf, 1.0], "finite"),
        ([1.0, 2.0], [3.0], "two equal arrays"),
    ],
)
def test_impossible_shutters_are_refused(t_a: list[float], t_b: list[float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Shutter(np.array(t_a), np.array(t_b))
