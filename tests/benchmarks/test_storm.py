"""The long benchmarks in short: a storm of few kills and a soak of seconds, and how they count holes."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import soak, storm
from benchmarks.holes import Holes

BEFORE = {"index": 10, "life": 1, "unanswered": 2, "window": 3} | dict.fromkeys(
    ("lost_events", "lost_frames", "late_windows", "out_of_memory"), 5
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"index": 11}, (0, 0, 0)),
        ({"index": 15, "unanswered": 6}, (4, 0, 0)),
        ({"index": 15, "unanswered": 4}, (2, 0, 2)),  # two that nobody told of
        ({"index": 11, "unanswered": 3}, (1, 0, 1)),  # told of one that is there
        ({"index": 15, "unanswered": 5, "life": 2}, (3, 1, 0)),  # one may be lost with the process
        ({"index": 15, "unanswered": 9, "life": 2}, (7, 0, 3)),
        ({"index": 11, "lost_events": 4}, (0, 0, 1)),  # a total went back
        ({"index": 11, "life": 0}, (0, 0, 1)),
        ({"index": 10}, (0, 0, 2)),  # the same index twice
    ],
)
def test_hole_is_told_or_not(changes: dict[str, Any], expected: tuple[int, int, int]) -> None:
    holes = Holes()
    holes.add(BEFORE)
    holes.add(BEFORE | changes)
    assert (holes.told, holes.unsent, holes.uncounted) == expected


@pytest.mark.system
@pytest.mark.parametrize("carrier", ["iceoryx2", "seqlock"])
def test_storm_of_few_kills_leaves_nothing_behind(carrier: str) -> None:
    if carrier == "iceoryx2":
        pytest.importorskip("iceoryx2")
    figures = {result.metric: result.value for result in storm.run(kills=6, overrides=[f"ring.carrier={carrier}"])}
    assert figures["kills"] >= 6
    nothing = ("hangs", "orphans", "torn", "uncounted", "left_files")
    assert {metric: figures[metric] for metric in nothing} == dict.fromkeys(nothing, 0)


@pytest.mark.system
def test_soak_of_seconds_counts_every_image() -> None:
    figures = {result.metric: result.value for result in soak.run(minutes=0.1)}
    assert figures["exposed_fps"] > 0
    assert (figures["uncounted"], figures["lives"]) == (0, 1)
    assert figures["peak_private_mb_consumer"] > figures["peak_private_mb_producer"] > 0
