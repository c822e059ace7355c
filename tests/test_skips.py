"""What the end of a run says of skipped tests: a few lines, whatever was missing."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conftest import short_reason, summed_up


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("Skipped: could not import 'faery': No module named 'faery'", "no module faery"),
        ("Skipped: no real recordings in /data: set NIRE_DATA to a folder", "no real recordings"),
        ("Skipped: needs libzmq with its header (Debian package libzmq3-dev)", "needs libzmq with its header"),
        (
            "the engine 'openvino' needs the package x, which is not here (y): pip",
            "the engine 'openvino' needs the package x",
        ),
    ],
)
def test_reason_is_cut_to_what_many_tests_share(reason: str, short: str) -> None:
    assert short_reason(reason) == short


def test_few_reasons_are_all_told_the_most_frequent_first() -> None:
    assert summed_up(Counter({"no GPU": 2, "no compiler": 5})) == "7 skipped: 5 x no compiler, 2 x no GPU"


def test_many_reasons_fill_three_lines_and_the_rest_is_counted() -> None:
    lines = summed_up(Counter({f"reason number {n} of many that are long": 100 - n for n in range(60)})).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("4230 skipped: 100 x reason number 0")
    assert lines[2].endswith("more reasons")
