"""What the demonstration says while it runs and at the end, and which moment it shows; without a pipeline."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nire.shutter import Shutter
from nire.types import ExposedFrame, Stamps
from stream.commands import demo
from stream.config import load_config
from stream.evaluation.pairs import Pair
from stream.sockets import wire

SECOND_NS = 1_000_000_000


class Watched:
    """A collector that is handed its messages, and its lines."""

    def __init__(self) -> None:
        """Begin at 0 s."""
        self._text = io.StringIO()
        config = load_config(None, [*demo._DEFAULTS, "publish.bind=tcp://127.0.0.1:59999"])
        self.collector = demo._Collector(config, Console(file=self._text))
        self.collector._reported_ns = 0

    def images(self, count: int, at_s: float, **lost: int) -> None:
        """Have so many images come at once."""
        for _ in range(count):
            index = self.collector.received
            pixels, mid_us = np.zeros((4, 6, 1), np.uint8), 2500.0 * index
            frame = ExposedFrame(index, 0, pixels, Shutter.instant(mid_us, 4), "upsample", Stamps(mid_us), **lost)
            self.collector.take(wire.unpack(wire.pack_frame(frame)), round(at_s * SECOND_NS))

    def lines(self, at_s: float) -> list[str]:
        """What is said at a time."""
        self._text.seek(0)
        self._text.truncate()
        self.collector.report(round(at_s * SECOND_NS))
        return self._text.getvalue().splitlines()


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.collector._subscriber.close()


def test_one_line_says_that_a_start_takes_its_time(watched: Watched) -> None:
    """There was none, and then a burst of twenty lines, of one image more each."""
    said = [watched.lines(at_s) for at_s in (1, 2.1, 4.2, 30)]
    assert [len(lines) for lines in said] == [0, 1, 0, 0]
    assert "warming up: a first start compiles loops for this machine" in said[1][0]
    watched.images(1, 60)
    assert watched.lines(60.1) == []


def test_rates_are_of_the_last_seconds(watched: Watched) -> None:
    watched.images(20, 50)
    assert "20 exposed frames, 10 of 400 a second" in watched.lines(52)[0]
    watched.images(800, 53)
    assert "820 exposed frames, 400 of 400 a second" in watched.lines(54)[0]
    assert "820 exposed frames, 0 of 400 a second, none came lately" in watched.lines(56)[0]


def test_losses_before_the_first_image_are_told_apart(watched: Watched) -> None:
    watched.images(1, 50, lost_events=706_959, lost_frames=3, late_windows=2)
    watched.images(1, 51, lost_events=707_000, lost_frames=3, late_windows=2)
    assert "lost: 41 events, 0 frames, 0 late windows" in watched.lines(52)[0]
    collector = watched.collector
    summary = demo._measure(load_config(None, demo._DEFAULTS), collector, [demo._Nearness(20.0, 30.0, 0.5, 0.9)])
    assert (summary["lost_events"], summary["while_starting"]["lost_events"]) == (707_000, 706_959)
    shown = io.StringIO()
    demo._show(summary | {"methods": {}}, Console(file=shown))
    assert "lost: 41 events, 0 frames, 0 late windows" in shown.getvalue()
    assert "while starting, before the first image: 706959 events, 3 frames, 2 late windows" in shown.getvalue()


def test_run_until_ctrl_c_says_that_pictures_come_then() -> None:
    assert demo._until(None, Path("out/demo")) == (
        "until Ctrl-C: pictures, the film and the numbers are written to out/demo then"
    )
    assert demo._until(12.0, Path("out/demo")) == "for 12 s"


def test_moment_that_is_shown_lies_in_the_captured_frame_s_own_exposure() -> None:
    """The pair that differed most was shown: two moments."""
    image = np.zeros((4, 6, 1), np.uint8)
    pairs = [Pair(image, image, Shutter.instant(0.0, 4), own) for own in (False, True, True, False)]
    found = [
        demo._Nearness(captured_db, exposed_db, 0, 0)
        for captured_db, exposed_db in ((10, 35), (24, 36), (20, 35), (9, 10))
    ]
    assert demo._shown(pairs, found) == 2
    beside = [Pair(image, image, Shutter.instant(0.0, 4), False)] * 4
    assert demo._shown(beside, found) == 0
