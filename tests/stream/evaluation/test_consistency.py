"""Stillness where nothing happens: pixels and steps that count, within windows, over seams, for captured frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nire.errors import SourceError
from nire.types import Content, ContentWindow, EventBatch, Gap, Packet, Query
from stream.config import load_config
from stream.evaluation.consistency import CAPTURED, Quiet, measure
from stream.evaluation.recording import Recorded, open_backends, read
from tests.golden import example
from tests.stream import packets
from tests.stream.command import call

SHAPE = (packets.GEOMETRY.height, packets.GEOMETRY.width)
WHOLE = slice(0, packets.GEOMETRY.width)
FIXED = ("source.time_offset_us=0", "reconstructor.contrast_threshold=[0.2, 0.2]")
LAST_US = packets.START_US + 6 * packets.PERIOD_US


class Stepping:
    """Exposes flat images: brighter by 7 from window to window, by a level from one millisecond to the next."""

    name, engine, needs_frames = "stepping", "none", True

    def build(self, window: ContentWindow) -> Content:
        return window

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        levels = [7 * content.index + int(query.shutter.mid_us // 1000 % 2) for query in queries]
        return np.stack([np.full((*SHAPE, 1), level, np.uint8) for level in levels])


class Flickering(Stepping):
    """Exposes black but for a corner that is white every other millisecond."""

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        images = np.zeros((len(queries), *SHAPE, 1), np.uint8)
        for image, query in zip(images, queries, strict=True):
            image[:2, :2] = 255 * int(query.shutter.mid_us // 1000 % 2)
        return images


def corner_events() -> EventBatch:
    """An event of the first pixel every 250 us."""
    t_us = np.arange(packets.START_US - 10_000, LAST_US, 250, dtype=np.int64)
    zeros = np.zeros(len(t_us), np.uint16)
    return EventBatch(t_us, zeros, zeros, np.ones(len(t_us), np.uint8), LAST_US)


def recorded(*more: Packet) -> Recorded:
    batches = packets.cut(corner_events(), range(packets.START_US, LAST_US, 5000))
    content = [*more, *packets.in_order(packets.frames(), batches)]
    return Recorded(load_config(None, FIXED), packets.INFO, tuple(content))


def test_difference_within_windows_and_over_seams_is_told_apart() -> None:
    found = measure(recorded(), {"stepping": Stepping()}, WHOLE, period_us=1000.0)
    assert found["stepping", "pair within"].levels == 1
    assert found["stepping", "single within"].levels == 1
    # A pair's windows meet 1 ms apart: 7 levels and one more or less. Between single exposures lie 21 ms.
    assert found["stepping", "pair seam"].levels in (6, 7, 8)
    assert found["stepping", "pair seam"].steps == 4
    assert found["stepping", "single seam"].steps == 5
    assert found["stepping", "pair within"].steps == 220 - 4


def test_pixels_near_events_do_not_count() -> None:
    found = measure(recorded(), {"flickering": Flickering()}, WHOLE, period_us=1000.0)
    assert found["flickering", "pair within"].levels == 0
    assert found["flickering", "pair within"].pixels == found["flickering", "pair within"].steps * (9 * 12 - 4)
    assert found["flickering", "pair within"].share == pytest.approx((9 * 12 - 4) / (9 * 12))


def test_columns_limit_what_is_compared() -> None:
    found = measure(recorded(), {"stepping": Stepping()}, slice(6, 12), period_us=1000.0)
    assert found["stepping", "pair within"].pixels == found["stepping", "pair within"].steps * 9 * 6


def test_steps_that_touch_a_gap_do_not_count() -> None:
    usual = measure(recorded(), {"stepping": Stepping()}, WHOLE, period_us=1000.0)
    gap = Gap(packets.START_US + 42_000, packets.START_US + 44_000, "test")
    cut = measure(recorded(gap), {"stepping": Stepping()}, WHOLE, period_us=1000.0)
    missing = usual["stepping", "pair within"].steps - cut["stepping", "pair within"].steps
    assert 2 <= missing <= 5
    assert usual[CAPTURED, "frame to frame"].steps == cut[CAPTURED, "frame to frame"].steps


def test_captured_frames_are_the_reference() -> None:
    taken = recorded()
    found = measure(taken, {"stepping": Stepping()}, WHOLE, period_us=1000.0)[CAPTURED, "frame to frame"]
    frames = np.stack([frame.pixels[..., 0] for frame in taken.frames]).astype(int)
    quiet = np.ones(SHAPE, bool)
    quiet[:2, :2] = False
    assert found.steps == 5
    assert found.levels == pytest.approx(np.abs(np.diff(frames, axis=0))[:, quiet].mean())


def test_event_silences_the_pixels_around_it_while_it_lasts() -> None:
    event = EventBatch(np.array([100]), np.array([5], np.uint16), np.array([4], np.uint16), np.ones(1, np.uint8), 200)
    quiet = Quiet(event, (Gap(300, 400, "test"),), shape=SHAPE)
    assert quiet.pixels(101, 200).all()
    still = quiet.pixels(100, 101)
    assert not still[3:6, 4:7].any()
    assert still.sum() == 9 * 12 - 9
    assert quiet.is_known(200, 300)
    assert not quiet.is_known(200, 301)


def test_command_prints_a_table_and_writes_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = example.write_recording(tmp_path / "golden.nire")
    options = ["--backend", "edi", "passthrough", "--rate", "1000", "--json", tmp_path / "f.json"]
    done = call(capsys, "evaluate", "consistency", path, *options, *(f"--set={key}" for key in FIXED))
    assert done.code == 0, done.err
    assert "pair seam" in done.out
    assert "captured frames" in done.out
    written = json.loads((tmp_path / "f.json").read_text())
    assert written["protocol"] == "consistency"
    rows = {(row["method"], row["task"]): row for row in written["rows"]}
    # Two frames make one window: there is no seam to measure, and its row is left out.
    assert set(rows) >= {("edi", "pair within"), ("edi", "single within"), ("captured", "frame to frame")}
    assert ("edi", "pair seam") not in rows
    assert rows["edi", "pair within"]["levels"] < 0.5


def test_command_refuses_what_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = example.write_recording(tmp_path / "golden.nire")
    for arguments, words in (
        ((path, "--rate", "0"), "--rate 0: expected 1 to 100000"),
        ((path, "--discard", "-1"), "--discard -1"),
        ((tmp_path / "none.nire",), "there is no file"),
        ((path, "--json", path / "below" / "f.json"), "cannot write to"),
    ):
        done = call(capsys, "evaluate", "consistency", *arguments)
        assert done.code == 2
        assert words in done.err


def test_recording_whose_clock_started_again_is_refused() -> None:
    taken = recorded(EventBatch.empty(0), EventBatch.empty(0, epoch=1))
    with pytest.raises(SourceError, match="its clock started again within"):
        measure(taken, {"stepping": Stepping()}, WHOLE, period_us=1000.0)


@pytest.mark.real
def test_double_integral_is_stiller_than_the_camera(shared_data: Path) -> None:
    path = shared_data / "recordings" / "emlb_demo-01_davis346.aedat4"
    taken = read(load_config(None, ["reconstructor.device=cpu"]), path, discard=0)
    found = measure(taken, open_backends(taken, ["edi"]), slice(0, 346), period_us=10_000.0)
    noise = found[CAPTURED, "frame to frame"].levels
    assert found["edi", "pair within"].levels < noise
    assert found["edi", "pair seam"].levels < noise
    assert found["edi", "single within"].levels < 0.01
