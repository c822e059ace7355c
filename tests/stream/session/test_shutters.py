"""Shutters files: what is read, what is refused by line, and which window answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nire.errors import ConfigError
from nire.types import ContentWindow
from stream.session.shutters import Answers, Wanted, read_shutters
from tests.stream import packets


def read(tmp_path: Path, text: str) -> list[Wanted]:
    path = tmp_path / "shutters.jsonl"
    path.write_text(text, encoding="utf-8")
    return read_shutters(path)


def test_lines_are_counted_from_one_and_defaults_filled_in(tmp_path: Path) -> None:
    text = '{"t_a_us": 10, "t_b_us": 20}\n{"t_a_us": 1.5, "t_b_us": 1.5, "row_delay_us": -2, "tag": "x"}'
    assert read(tmp_path, text) == [Wanted(1, 10.0, 20.0, 0.0, ""), Wanted(2, 1.5, 1.5, -2.0, "x")]


def test_unix_microseconds_are_read_exactly(tmp_path: Path) -> None:
    (only,) = read(tmp_path, '{"t_a_us": 1643243628737093, "t_b_us": 1643243628757094}')
    assert (only.t_a_us, only.t_b_us) == (1643243628737093, 1643243628757094)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n", "\n  \n"])
def test_end_of_the_file_may_be_blank(tmp_path: Path, end: str) -> None:
    assert len(read(tmp_path, '{"t_a_us": 0, "t_b_us": 0}\n{"t_a_us": 0, "t_b_us": 0}' + end)) == 2


def test_lines_of_windows_are_read(tmp_path: Path) -> None:
    assert [w.line for w in read(tmp_path, '{"t_a_us": 0, "t_b_us": 0}\r\n{"t_a_us": 1, "t_b_us": 1}\r\n')] == [1, 2]


def test_tag_may_hold_any_text(tmp_path: Path) -> None:
    tag = "a\u2028b\x85c / ü"
    (only,) = read(tmp_path, json.dumps({"t_a_us": 0, "t_b_us": 0, "tag": tag}, ensure_ascii=False))
    assert only.tag == tag


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"t_a_us": 10', "no JSON"),
        ("t_a_us = 10", "no JSON"),
        ("", "no JSON"),
        ('{"t_a_us": 10}', "t_b_us missing"),
        ("{}", "t_a_us and t_b_us missing"),
        ('{"t_a_us": 10, "t_b_us": 5}', "lies before"),
        ('{"t_a_us": NaN, "t_b_us": 5}', "numbers"),
        ('{"t_a_us": 1, "t_b_us": Infinity}', "numbers"),
        ('{"t_a_us": "1", "t_b_us": 5}', "numbers"),
        ('{"t_a_us": true, "t_b_us": 5}', "numbers"),
        ('{"t_a_us": null, "t_b_us": 5}', "numbers"),
        ('{"t_a_us": 1, "t_b_us": 5, "row_delay_us": [1]}', "numbers"),
        ('{"t_a_us": 1, "t_b_us": 1e300}', "numbers"),
        ('{"t_a_us": 1, "t_b_us": 5, "row_delay_us": 1e308}', "numbers"),
        ('{"t_a_us": 1, "t_b_us": 1' + "0" * 400 + "}", "numbers"),
        ('{"t_a_us": 1, "t_b_us": 5, "row_delay": 3}', "unknown key 'row_delay'"),
        ('{"t_a_us": 1, "t_b_us": 5, "tag": 4}', "tag must be a text"),
        ('{"t_a_us": 1, "t_b_us": 5, "tag": "a\\ud800"}', r"tag = 'a\\ud800' holds half a character"),
        ("[1, 2]", "object is expected, found list"),
    ],
)
def test_bad_line_is_named_with_its_fault(tmp_path: Path, line: str, message: str) -> None:
    good = '{"t_a_us": 0, "t_b_us": 0}'
    with pytest.raises(ConfigError, match=message) as refusal:
        read(tmp_path, f"{good}\n{line}\n{good}\n")
    assert "line 2:" in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, "x\n{}\n[]\n")
    assert [f"line {n}:" in str(refusal.value) for n in (1, 2, 3)] == [True] * 3


@pytest.mark.parametrize("text", ["", "\n", "  \n\n"])
def test_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="holds no shutter"):
        read(tmp_path, text)


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(ConfigError, match="cannot read the shutters file"):
            read_shutters(path)
    (tmp_path / "binary").write_bytes(b"\x80\x81\xff")
    with pytest.raises(ConfigError, match="no shutters file"):
        read_shutters(tmp_path / "binary")


# Which window answers


def window(index: int, frames: slice, *, answers: tuple[float, float]) -> ContentWindow:
    chosen = tuple(packets.frames()[frames])
    covered = (chosen[0].first_us - 5000, chosen[-1].last_us + 5000)
    t0_us, t1_us = int(chosen[0].first_us), int(chosen[-1].last_us)
    batch = packets.events()
    return ContentWindow(index, t0_us, t1_us, chosen, batch, packets.GEOMETRY, answers_us=answers, covered_us=covered)


def wanted(*times_us: float) -> list[Wanted]:
    return [Wanted(line, t, t, 0.0, "") for line, t in enumerate(times_us, 1)]


def test_window_with_the_two_frames_around_the_shutter_has_the_last_word() -> None:
    mids = [frame.mid_us for frame in packets.frames()]
    first = window(0, slice(0, 2), answers=(mids[0], mids[1]))
    second = window(1, slice(1, 3), answers=(mids[1], mids[2]))
    answers = Answers(wanted(mids[1] + 1000), packets.GEOMETRY.height)
    assert len(list(answers.of(first))) == 1  # provisional: covered, but the middle is the next window's
    assert len(list(answers.of(second))) == 1
    assert list(answers.of(second)) == []
    assert answers.unanswered == []


def test_shutter_that_no_window_covers_stays_unanswered_and_the_span_is_of_all() -> None:
    mids = [frame.mid_us for frame in packets.frames()]
    answers = Answers(wanted(0.0, mids[0], 9e12), packets.GEOMETRY.height)
    for i in range(2):
        list(answers.of(window(i, slice(i, i + 2), answers=(mids[i], mids[i + 1]))))
    assert [item.line for item in answers.unanswered] == [1, 3]
    frames = packets.frames()
    assert answers.covered_us == (frames[0].first_us - 5000, frames[2].last_us + 5000)
