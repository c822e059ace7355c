"""The compiled loop over lines of text agrees with a plain reader, bit for bit, whatever the lines."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.recordings.text.lines import BadLine, LineFormat, read_events
from drivers.recordings.text.loops import read_lines
from tests.drivers.recordings import text_reference as reference

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(
    st.integers(-5, 70_000).map(str),
    st.integers(0, 10**22).map(str),
    st.decimals(-(10**6), 10**10, places=6).map(lambda value: f"{value:f}"),
    st.decimals(0, 2 * 10**9, places=9).map(lambda value: f"{value:f}"),
    FLOATS.map(repr),
    FLOATS.map(lambda value: f"{value:.18e}"),
    st.floats(1e-6, 2e9).map(lambda value: f"{value:.18e}"),
    st.from_regex(reference.NUMBER, fullmatch=True).filter(str.isascii),
)
BETWEEN = st.text(" \t,;\v\f", min_size=1, max_size=3)
LINES = st.builds(
    lambda numbers, gaps, end: "".join(part for pair in zip(numbers, gaps, strict=True) for part in pair) + end,
    st.lists(NUMBERS, min_size=4, max_size=4),
    st.lists(BETWEEN, min_size=4, max_size=4),
    st.sampled_from(["\n", "\r\n", "\r", "\n \n"]),
)
# What is nearly a line, or nearly a number.
WRONG = st.text("0123456789.eE+-, ;\t\r\nx#", max_size=60)


def same(found: list[list[float]], expected: list[tuple[float, ...]]) -> bool:
    return np.array(found, np.float64).tobytes() == np.array(expected, np.float64).reshape(len(expected), 4).tobytes()


def read(data: bytes) -> tuple[list[list[float]], int, int]:
    """Rows, good bytes, and how many numbers were too hard for the loop."""
    ended = np.frombuffer(data if data.endswith(b"\n") else data + b"\n", np.uint8)
    numbers = np.empty((4, data.count(b"\n") + data.count(b"\r") + 1))
    places, spill = np.empty(numbers.size, np.int64), np.empty_like(ended)
    good, count, hard, spilt, is_bad = read_lines(ended, 0, numbers, places, spill)
    for place, text in zip(places[:hard].tolist(), spill[:spilt].tobytes().split(), strict=True):
        numbers.flat[place] = float(text)
    return numbers[:, :count].T.tolist(), int(good) if is_bad else len(data), hard


@settings(max_examples=200)
@given(st.lists(LINES, max_size=20))
@example(["1468940032.229371071 0 345 1\n", "1.468940032229371071e+09 1.000000000000000000e+00 +3. .5\n"])
@example(["9007199254740993 9007199254740992.5 0.1 1e23\n", "1e400 -1e400 4.9e-324 -0\n"])
def test_numbers_are_those_of_python(lines: list[str]) -> None:
    data = "".join(lines).encode()
    found, good, _ = read(data)
    expected, reach = reference.rows(data)
    assert (good, reach) == (len(data), len(data))
    assert same(found, expected)


@settings(max_examples=200)
@given(st.lists(LINES, max_size=3), WRONG, st.lists(LINES, max_size=3))
@example([], "1 2 3-4", [])
@example([], "1 2 3\n5 6 7 8 9", [])
@example([], ",1 2 3 4", [])
@example([], "1 2 3 1e", [])
@example([], "1 2 3 .", [])
def test_lines_that_are_none_are_found_where_they_are(before: list[str], wrong: str, after: list[str]) -> None:
    data = ("".join(before) + wrong + "\n" + "".join(after)).encode()
    found, good, _ = read(data)
    expected, reach = reference.rows(data)
    assert good == reach
    assert same(found, expected)


@settings(max_examples=200)
@given(st.floats(1e-4, 3e9), st.integers(9, 18))
def test_times_as_programs_write_them_are_not_too_hard(time_s: float, places: int) -> None:
    text = f"{time_s:.{places}e} 1.{'0' * places}e+00 0.{'0' * places}e+00 1\n"
    found, _, hard = read(text.encode())
    assert found[0][0] == float(text.split()[0])
    behind_point = places - int(text.split()[0].partition("e")[2])
    assert hard == (behind_point > 22 or (places == 18 and text[0] == "9"))  # then 19 digits do not fit


@pytest.mark.parametrize("piece_bytes", [150, 1000])
def test_numbers_too_hard_for_the_loop_come_to_their_place(monkeypatch: pytest.MonkeyPatch, piece_bytes: int) -> None:
    monkeypatch.setattr("drivers.recordings.text.lines._PIECE_BYTES", piece_bytes)
    lines = [f"{n}.{'5' * 30} {n}e-30 7 1.000000000000000000000000000001\n" for n in range(50)]
    data = "".join(lines).encode()
    batches = list(read_events(io.BytesIO(data), LineFormat(0, "txyp", "s")))
    t_us = np.concatenate([batch.t_us for batch in batches]).tolist()
    assert t_us == [n * 1_000_000 + 555_556 for n in range(50)]
    assert {(x, y, p) for b in batches for x, y, p in zip(b.x, b.y, b.p, strict=True)} == {(0, 7, 1)}


class _Short(io.BytesIO):
    """Gives few bytes at a time."""

    few = 1

    def read(self, count: int | None = -1, /) -> bytes:
        return super().read(min(count or 0, self.few))


@pytest.mark.parametrize("few", [1, 3, 8, 12, 21, 33])
def test_a_last_line_without_an_end_is_whole_wherever_the_reading_pauses(few: int) -> None:
    file = _Short(b"10 1 2 1\n20 30 40 0\n300 100 200 1")
    file.few = few
    batches = list(read_events(file, LineFormat(0, "txyp", "us")))
    events = [tuple(map(int, event)) for b in batches for event in zip(b.t_us, b.x, b.y, b.p, strict=True)]
    assert events == [(10, 1, 2, 1), (20, 30, 40, 0), (300, 100, 200, 1)]


def test_a_line_without_an_end_is_told_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.recordings.text.lines._PIECE_BYTES", 1000)
    with pytest.raises(BadLine) as told:
        list(read_events(io.BytesIO(b"1 2 3 1\n" + b"1" * 5000), LineFormat(0, "txyp", "us")))
    assert told.value.position == 8
