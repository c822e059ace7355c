"""Streams without frames: windows of events alone, the same for any delivery, through session and offline."""

from __future__ import annotations

import itertools
import json
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivers.recordings.recording.source import RecordingWriter
from drivers.source import SourceInfo
from nire.backends import edi
from nire.errors import ConfigError, ShutterOutsideWindow, SourceError
from nire.shutter import Shutter
from nire.types import EventBatch, Gap, Packet
from stream.backends import open_reconstructor
from stream.commands import offline
from stream.config import load_config
from stream.session.session import Session
from stream.windows.assembler import WindowAssembler
from stream.windows.cut import Cut
from stream.windows.policies.span import LONGEST_SILENCE_US, Spans
from tests.nire.windows import random_events
from tests.stream import packets, signed_events
from tests.stream.packets import GEOMETRY, START_US
from tests.stream.session.test_session import Clock, fingerprint
from tests.stream.windows.test_assembler import signature

INFO = SourceInfo("events alone", GEOMETRY, has_frames=False)
SPAN_US = 33_000
# Motion, 2 s of stillness, motion; 200 ms more without an event at the end.
TWO_BURSTS = [random_events(1, 3000, START_US, START_US + 150_000), random_events(2, 3000, 3_150_000, 3_300_000)]


def batches(edges_us: Iterator[int]) -> list[EventBatch]:
    columns = (np.concatenate([getattr(b, name) for b in TWO_BURSTS]) for name in ("t_us", "x", "y", "p"))
    t_us, x, y, p = columns
    return packets.cut(EventBatch(t_us, x, y, p, 3_500_000), list(edges_us))


def usual() -> list[EventBatch]:
    return batches(iter(range(START_US, 3_500_000, 5000)))


def delivered(seed: int) -> list[EventBatch]:
    rng = random.Random(seed)
    return batches(rng.randrange(START_US - 50_000, 3_500_000) for _ in range(rng.randrange(60)))


def windows_of(stream: list[Packet] | list[EventBatch], **changes: Any) -> list[Any]:
    settings: dict[str, Any] = {"margin_us": 5000, "reach_us": 0, "step_us": 5000, "span_us": SPAN_US}
    machine = WindowAssembler(GEOMETRY, Cut("span", **{**settings, **changes}))
    found = []
    for packet in stream:
        machine.push(packet)
        for window in machine.complete():
            found.append(window)
            machine.release()
    return found + list(machine.finish())


def session(*overrides: str, freshest: bool = False, info: SourceInfo = INFO) -> Session:
    return Session(load_config(None, overrides), info, signed_events.create(GEOMETRY), freshest=freshest, clock=Clock())


# Windows


@pytest.mark.parametrize("reach_us", [0, 3000])
@pytest.mark.parametrize("seed", range(8))
def test_any_splitting_gives_the_same_windows(seed: int, reach_us: int) -> None:
    expected = [signature(window) for window in windows_of(usual(), reach_us=reach_us)]
    assert [signature(window) for window in windows_of(delivered(seed), reach_us=reach_us)] == expected


def test_windows_lie_on_the_absolute_grid_and_hold_all_their_events() -> None:
    found = windows_of(usual())
    everything = np.concatenate([batch.t_us for batch in TWO_BURSTS])
    for window in found[:-1]:
        assert (window.t0_us % SPAN_US, window.t1_us - window.t0_us, window.frames) == (0, SPAN_US, ())
        assert window.answers_us == window.covered_us == (window.t0_us, window.t1_us)
    for window in found:
        inside = everything[(everything >= window.t0_us) & (everything < window.t1_us)]
        np.testing.assert_array_equal(window.events.t_us, inside)
    assert [window.index for window in found] == list(range(len(found)))


def test_time_is_answered_without_hole_or_repeat_until_the_end_but_for_a_long_silence() -> None:
    answers = [window.answers_us for window in windows_of(usual())]
    assert answers[0][0] <= START_US
    holes = [(end, begin) for (_, end), (begin, _) in itertools.pairwise(answers) if begin != end]
    ((silent_us, again_us),) = holes
    assert LONGEST_SILENCE_US < silent_us - (START_US + 150_000) < LONGEST_SILENCE_US + 2 * SPAN_US
    assert again_us <= 3_150_000 < again_us + SPAN_US
    assert answers[-1][1] == 3_500_000


def test_last_window_is_as_long_as_the_others_and_reaches_back() -> None:
    before, last = windows_of(usual())[-2:]
    assert (last.t1_us, last.t1_us - last.t0_us) == (3_500_000, SPAN_US)
    assert last.answers_us == (before.t1_us, last.t1_us)
    assert last.covered_us == (last.t0_us, last.t1_us)


def test_clock_that_leaps_ahead_costs_no_windows() -> None:
    spans = Spans(SPAN_US)
    first, second = random_events(1, 1, 0, 1), random_events(1, 1, 10**15, 10**15 + 1)
    seen = []
    while (span := spans.following([first, second], 2 * 10**15)) is not None:
        seen.append(span)
    assert len(seen) < 50
    assert any(begin <= 10**15 < end for begin, end in seen)


def test_gap_belongs_to_the_windows_that_it_touches() -> None:
    gap = Gap(START_US + 40_000, START_US + 41_000, "lost")
    marked = [window for window in windows_of([gap, *usual()]) if window.gaps]
    assert len(marked) == 1
    assert marked[0].t0_us <= gap.t0_us < marked[0].t1_us


def test_clock_reset_ends_the_last_span_and_begins_anew() -> None:
    once = windows_of(usual())
    again = [replace(batch, epoch=1) for batch in usual()]
    found = windows_of([*usual(), *again])
    assert [w.answers_us for w in found] == [w.answers_us for w in once] * 2


def test_nothing_but_heartbeats_gives_no_window() -> None:
    assert windows_of([EventBatch.empty(START_US + k * 50_000) for k in range(40)]) == []


def test_frames_are_not_hoarded() -> None:
    machine = WindowAssembler(GEOMETRY, Cut("span"))
    for packet in packets.in_order(
        packets.frames(), packets.cut(packets.events(), range(START_US, START_US + 200_000, 5000))
    ):
        machine.push(packet)
        assert all(window.frames == () for window in machine.complete())
        machine.release()
        assert machine.held_frames <= 1


def test_memory_does_not_grow() -> None:
    machine = WindowAssembler(GEOMETRY, Cut("span"))
    for k in range(2000):
        machine.push(random_events(k, 5, START_US + 5000 * k, START_US + 5000 * (k + 1)))
        list(machine.complete())
        machine.release()
    assert machine.held_events < 100


# Session


@pytest.mark.parametrize(
    "overrides",
    [
        ("plan.rate_hz=300",),
        ("plan.rate_hz=333", "plan.exposure_us=4000"),
        ("plan.name=reshutter", "plan.rate_hz=300", "plan.exposure_us=3000", "plan.row_delay_us=50"),
        ("source.time_offset_us=2500",),
    ],
    ids=["instants", "exposures", "rolling", "offset"],
)
def test_plan_is_answered_without_hole_or_repeat_however_it_is_delivered(overrides: tuple[str, ...]) -> None:
    def run(stream: list[EventBatch]) -> list[Any]:
        machine = session(*overrides)
        return [*machine.feed(stream), *machine.finish()]

    expected = run(usual())
    for seed in range(4):
        assert fingerprint(run(delivered(seed))) == fingerprint(expected)
    rate_hz = load_config(None, overrides).plan.rate_hz
    steps = np.diff([frame.stamps.device_us for frame in expected]) * rate_hz / 1e6
    assert (np.abs(steps - 1) > 0.01).sum() == 1  # the long silence
    assert len(expected) > 200


def test_images_say_what_they_are() -> None:
    machine = session("plan.rate_hz=100")
    exposed = [*machine.feed(usual()), *machine.finish()]
    assert {(f.transfer, f.backend, f.pixels.shape) for f in exposed} == {("srgb", "signed_events", (9, 12, 1))}
    assert [f.index for f in exposed] == list(range(len(exposed)))
    assert all(f.evidence_us > 0 for f in exposed)
    assert exposed[1].evidence_us <= exposed[1].shutter.mid_us + SPAN_US
    assert (machine.calibration.threshold_positive, machine.calibration.time_offset_us) == (0.25, 0.0)


def test_hot_pixels_are_found_in_events_alone() -> None:
    t_us = np.arange(START_US, 1_500_000, 200, dtype=np.int64)
    x, y, p = (np.full(len(t_us), value) for value in (3, 2, 1))
    mad = EventBatch(t_us, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), 1_500_000)
    machine = session("plan.rate_hz=100")
    list(machine.feed(packets.cut(mad, list(range(START_US, 1_500_000, 5000)))))
    hot = machine.calibration.hot_pixels
    assert hot is not None
    assert np.argwhere(hot).tolist() == [[2, 3]]


def test_moments_of_the_recent_windows_can_be_asked_for() -> None:
    machine = session("plan.rate_hz=100")
    list(machine.feed(usual()))
    first_us, last_us = machine.covered_us or (0.0, 0.0)
    frame = machine.ask(Shutter.instant(last_us - 1, GEOMETRY.height), "asked")
    assert frame.tag == "asked"
    with pytest.raises(ShutterOutsideWindow):
        machine.ask(Shutter.instant(first_us - 1, GEOMETRY.height), "asked")


def test_late_windows_are_skipped_and_counted_where_the_freshest_counts() -> None:
    machine = session("plan.rate_hz=100", freshest=True)
    exposed = list(machine.feed(usual()))
    assert machine.counters.late_windows > 0
    assert len({f.window for f in exposed}) == 2


def test_method_that_needs_no_frames_is_given_none() -> None:
    machine = session("plan.rate_hz=100", info=packets.INFO)
    exposed = [*machine.feed(packets.usual()), *machine.finish()]
    assert exposed
    assert machine.counters.frames == 6


def test_plan_of_frames_is_refused_at_the_start_and_later() -> None:
    with pytest.raises(ConfigError, match=r"use plan\.name = 'upsample'"):
        session("plan.name=deblur")
    machine = session()
    with pytest.raises(ConfigError, match=r"use plan\.name = 'upsample'"):
        machine.set_plan({"name": "unroll"})
    assert machine.plan.name == "upsample"


def test_policy_that_needs_frames_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'pair' cuts windows around frames, and events alone has none"):
        session("window.policy=pair")


def test_method_that_needs_frames_names_the_one_that_does_not() -> None:
    with pytest.raises(SourceError, match="events_only"):
        Session(load_config(None), INFO, edi.create(GEOMETRY), freshest=False, clock=Clock())


@pytest.mark.usefixtures("shipped_defaults")
def test_backend_that_was_not_set_is_events_only_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert open_reconstructor(load_config(None), GEOMETRY, has_frames=False).name == "events_only"
    assert "guess that starts from gray" in caplog.text
    chosen = load_config(None, ["reconstructor.backend=edi"])
    assert open_reconstructor(chosen, GEOMETRY, has_frames=False).name == "edi"


# Offline


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "events.nire"
    with RecordingWriter(path, GEOMETRY, source=INFO) as writer:
        for packet in usual():
            writer.write(packet)
    return path


def written(out: Path) -> dict[float, np.ndarray]:
    lines = [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]
    return {line["t_a_us"]: cv2.imread(str(out / line["file"]), cv2.IMREAD_UNCHANGED) for line in lines}


BACKEND = "reconstructor.backend=tests.stream.signed_events"


def test_offline_writes_the_images_of_the_session(recording: Path, tmp_path: Path) -> None:
    assert offline.run(load_config(None, [BACKEND]), recording, tmp_path / "out") == 0
    machine = session()
    expected = {f.shutter.first_us: f.pixels for f in [*machine.feed(usual()), *machine.finish()]}
    found = written(tmp_path / "out")
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[t], expected[t][..., 0]) for t in expected)
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (report["counts"]["frames"], report["counts"]["events"]) == (0, 6000)


def test_offline_answers_shutters_and_names_those_in_a_silence(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    border_us = 31 * SPAN_US  # narrower than two margins: across a border it is answered too
    asked = [(border_us - 3000, border_us + 3000), (2_500_000, 2_500_000), (3_200_000, 3_200_000)]
    shutters = tmp_path / "s.jsonl"
    shutters.write_text("".join(json.dumps({"t_a_us": a, "t_b_us": b}) + "\n" for a, b in asked))
    config = load_config(None, [BACKEND, "plan.name=deblur"])
    assert offline.run(config, recording, tmp_path / "out", shutters=shutters) == offline.UNANSWERED
    assert list(written(tmp_path / "out")) == [border_us - 3000, 3_200_000]
    assert "line 2" in capsys.readouterr().err


def test_recording_that_announced_frames_and_has_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "announced.nire"
    with RecordingWriter(path, GEOMETRY) as writer:
        for packet in usual():
            writer.write(packet)
    with pytest.raises(SourceError, match=r"no frames.*events_only"):
        offline.run(load_config(None), path, tmp_path / "out")
    assert offline.run(load_config(None, [BACKEND]), path, tmp_path / "again") == 0


def test_frames_of_a_recording_are_set_aside_for_a_method_that_needs_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "six.nire"
    with RecordingWriter(path, GEOMETRY, source=packets.INFO) as writer:
        for packet in packets.usual():
            writer.write(packet)
    with caplog.at_level(logging.WARNING):
        assert offline.run(load_config(None, [BACKEND]), path, tmp_path / "out") == 0
    assert written(tmp_path / "out")
    assert not caplog.messages
