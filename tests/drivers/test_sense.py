"""What numbers mean is told by the file, by what fits a camera, or asked; never guessed against sense."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.frame_table import read_frame_table
from drivers.sense import (
    Times,
    are_exposures,
    brighter,
    find_order,
    find_polarity,
    find_reach,
    find_unit,
    name_columns,
    order_in_words,
    size_in_words,
    time_us,
    unit_in_words,
    whole_rows,
)
from nire.errors import RecordingDamaged, SourceError

COUNT = 4000
SINCE_1970_US = 1_700_000_000_000_000
UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}


def stamps_us(rate_hz: float = 50_000.0) -> NDArray[np.float64]:
    return np.sort(np.random.default_rng(3).integers(0, int(COUNT / rate_hz * 1e6), COUNT)).astype(np.float64)


@pytest.mark.parametrize(
    ("unit", "start_us"), [*itertools.product(["s", "us"], [0, 5_000_000]), *itertools.product(UNITS, [SINCE_1970_US])]
)
def test_units_that_cameras_use_are_told(unit: str, start_us: int) -> None:
    t_us = start_us + stamps_us()
    t = t_us / UNITS[unit] if unit in ("s", "ms") else np.rint(t_us / UNITS[unit])
    assert find_unit(Times(t, pixels=346 * 260), "auto", path="a").value == unit


def test_whole_numbers_as_fractions_are_microseconds() -> None:
    assert find_unit(Times(1e6 + stamps_us()), "auto", path="a").value == "us"


def test_first_time_of_0_is_no_unit() -> None:
    t = stamps_us() * 1e-6
    t[0] = 0
    assert find_unit(Times(t), "auto", path="a").value == "s"


def test_unit_that_could_be_another_is_asked_for() -> None:
    quiet = Times(stamps_us(100.0), pixels=1200)  # 100 events a second in us, 100,000 in ns
    with pytest.raises(SourceError, match=r"a does not tell the unit.*time_unit to s, ms, us or ns"):
        find_unit(quiet, "auto", path="a")
    assert find_unit(quiet, "us", path="a").value == "us"
    assert find_unit(quiet, "auto", path="a", said="ns").value == "ns"
    with_frames = Times(quiet.events, np.arange(0, 4e7, 40_000), pixels=1200)
    assert find_unit(with_frames, "auto", path="a").value == "us"


def test_periods_of_frames_tell_their_unit() -> None:
    for unit, step in (("us", 33_333), ("ns", 33_333_333), ("ms", 33), ("s", 0.0333)):
        frames = np.arange(20) * float(step)
        assert find_unit(Times(np.empty(0), frames), "auto", path="a").value == unit


@pytest.mark.parametrize(
    "order", [order for order in map("".join, itertools.permutations("txyp")) if "y" in order.partition("x")[2]]
)
def test_order_of_columns_is_told_where_only_one_fits(order: str) -> None:
    rng = np.random.default_rng(1)
    values = {"t": 1e6 + stamps_us(), "x": rng.integers(0, 346, COUNT), "y": rng.integers(0, 260, COUNT)}
    values["p"] = rng.integers(0, 2, COUNT)
    columns = np.stack([values[letter].astype(np.float64) for letter in order])
    assert find_order(columns, "", path="a").value == order
    values["p"] = rng.integers(0, 5, COUNT)
    columns = np.stack([values[letter].astype(np.float64) for letter in order])
    with pytest.raises(SourceError, match=r"does not tell the order.*source.settings.columns"):
        find_order(columns, "", path="a")
    assert find_order(columns, order, path="a").value == order


def test_size_tells_x_from_y() -> None:
    rng = np.random.default_rng(1)
    wide, high, p = rng.integers(0, 346, COUNT), rng.integers(0, 260, COUNT), rng.integers(0, 2, COUNT)
    columns = np.stack([1e6 + stamps_us(), high, wide, p])
    assert find_order(columns, "", path="a", size=(346, 260)).value == "tyxp"


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ("# t x y p", "txyp"),
        ("x,y,polarity,timestamp", "xypt"),
        ("# Format is time (float s), x, y, polarity (0=off, 1=on) as specified", "txyp"),
        ("# This is a text DVS created by v2e", ""),
        ("% events of a moving hand", ""),
    ],
)
def test_order_in_words(words: str, order: str) -> None:
    assert order_in_words(words) == order


def test_units_and_sizes_in_words() -> None:
    found = [unit_in_words(text) for text in ("time [us]", "timestamp_ns", "# time (float s), x", "t x y p", "time_ms")]
    assert found == ["us", "ns", "s", "", "ms"]
    texts = (
        "%geometry:40,30",
        "% geometry 640x480",
        "# width 346 height 260",
        "# sensor size: 346 x 260",
        "# run 12 7",
    )
    assert [size_in_words(text) for text in texts] == [(40, 30), (640, 480), (346, 260), (346, 260), None]


def test_names_of_columns() -> None:
    assert name_columns(["ps", "ts", "xs", "ys"]) == ("ts", "xs", "ys", "ps")
    assert name_columns(["timestamp_us", "polarity", "x", "y", "camera"]) == ("timestamp_us", "x", "y", "polarity")
    assert name_columns(["t", "x", "y"]) is None


def test_polarities() -> None:
    for values in ([0, 1], [-1, 1], [False, True], [0.0, 1.0]):
        assert brighter(np.array(values), "auto").tolist() == [0, 1]
    for values in ([0, 255], [1, 2], [0.5, 1], [np.nan, 1]):
        with pytest.raises(ValueError, match=r"source.settings.polarity"):
            brighter(np.array(values), "auto")
    assert brighter(np.array([0, 255]), "positive").tolist() == [0, 1]
    assert brighter(np.array([0, 1]), "inverted").tolist() == [1, 0]


def test_single_values_that_are_damage_tell_nothing_of_the_others() -> None:
    t, p = 1e6 + stamps_us(), np.arange(COUNT) % 2.0
    axis = np.random.default_rng(1).integers(0, 260, COUNT).astype(np.float64)
    p[300], t[[500, 1000, 1500, 2000]] = 7, (np.nan, 1e300, np.inf, -1e300)
    columns = whole_rows(np.stack([t, axis, axis, p]), path="a")
    assert columns.shape == (4, COUNT - 2)
    assert find_order(columns, "", path="a").value == "txyp"
    assert find_polarity(columns[3], "auto", path="a").why == "the other value is 0, as usual"
    assert find_reach(time_us(columns[0], "us"), -1, path="a") == (0, ())
    assert find_unit(Times(columns[0], last=np.nan), "auto", path="a").value == "us"
    with pytest.raises(SourceError, match=r"a: 3 of its first 4 events have NaN"):
        whole_rows(np.array([[np.nan, 0, 0, 0], [0, np.nan, 0, 0], [0, 0, np.inf, 0], [0.0] * 4]).T.copy(), path="a")
    with pytest.raises(SourceError, match=r"a: the polarities are 0, 1, 255.*source.settings.polarity"):
        find_polarity(np.where(np.arange(COUNT) % 50, p, 255), "auto", path="a")


def test_reach_of_sorting() -> None:
    t_us = np.arange(0, 1_000_000, 10)
    assert find_reach(t_us, -1, path="a") == (0, ())
    spoilt = t_us.copy()
    spoilt[500] = 3  # one wrong time is no disorder
    assert find_reach(spoilt, -1, path="a")[0] == 0
    by_window = t_us.reshape(-1, 20, 50).transpose(0, 2, 1).ravel()  # sorted by pixel within 10 ms
    reach_us, (found,) = find_reach(by_window, -1, path="a")
    assert 9500 < reach_us < 30_000
    assert "sorted within" in found.value
    with pytest.raises(SourceError, match=r"not in the order of time.*sort_us"):
        find_reach(np.tile(np.arange(0, 5_000_000, 1000), 20), -1, path="a")


def test_exposures_end_before_the_next_one_begins() -> None:
    starts = np.arange(5) * 40_000.0
    assert are_exposures(starts, starts + 20_000)
    assert are_exposures(starts, starts + 40_500)  # rounding
    assert not are_exposures(starts, starts + 60_000)
    assert not are_exposures(starts, starts - 1)
    assert not are_exposures(np.arange(4.0), 1540821844.0 + np.arange(4))


@pytest.mark.parametrize(
    ("text", "starts", "ends", "names"),
    [
        ("1.0 a.png\n1.5 b.png\n", [1, 1.5], [1, 1.5], ("a.png", "b.png")),
        ("1.0 1.1 a.png\n1.5 1.6 b.png\n", [1, 1.5], [1.1, 1.6], ("a.png", "b.png")),
        ("# id timestamp image_name\n0 1.0 a.png\n1 1.5 b.png\n", [1, 1.5], [1, 1.5], ("a.png", "b.png")),
        ("0 1540.0 a.png\n1 1540.5 b.png\n", [1540, 1540.5], [1540, 1540.5], ("a.png", "b.png")),
        ("a.png,1.0\nb.png,1.5\n", [1, 1.5], [1, 1.5], ("a.png", "b.png")),
        ("index,start,end\n7,1.0,1.1\n8,1.5,1.6\n", [1, 1.5], [1.1, 1.6], ("", "")),
    ],
)
def test_tables_of_images(text: str, starts: list[float], ends: list[float], names: tuple[str, ...]) -> None:
    table = read_frame_table(text, path="images.txt")
    assert (table.start.tolist(), table.end.tolist(), table.names) == (starts, ends, names)
    assert table.are_exposures == (starts != ends)


def test_table_that_does_not_tell_is_asked_for() -> None:
    with pytest.raises(SourceError, match=r"image_columns to one of 'time'"):
        read_frame_table("0 1 a.png\n1 2 b.png\n", path="images.txt")
    table = read_frame_table("0 1 a.png\n1 2 b.png\n", path="images.txt", columns="start end")
    assert table.are_exposures
    for text in ("1.0 2.0 3.0 4.0 a.png\n", "a.png\n", "1.0 a.png\nb.png\n", "1.0 a\0b.png\n"):
        with pytest.raises((RecordingDamaged, SourceError)):
            read_frame_table(text, path="images.txt", is_named=True)
