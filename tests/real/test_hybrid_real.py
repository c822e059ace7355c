"""A real event camera's RAW with 4,157 edges, and frames that were taken at them by a camera of our own making."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers.cameras.hybrid.source import HybridSource, open_source
from drivers.detect import open_recording
from drivers.recordings.recording.source import RecordingWriter
from nire.types import EventBatch, Frame, Trigger

pytestmark = pytest.mark.real

RAW = "ecp_test_events_1_640x480_evt3_trig.raw"
LOST = (40, 41, 333)  # frames whose image never arrived


def edges_of(path: Path) -> list[tuple[int, int]]:
    """Start and end of each pulse of the line."""
    with open_recording(path) as source:
        edges = [packet for packet in source if isinstance(packet, Trigger)]
    rises = [edge.t_us for edge in edges if edge.rising]
    falls = [edge.t_us for edge in edges if not edge.rising]
    assert (len(rises), len(falls)) == (2079, 2078)
    return [(rise, min(fall for fall in falls[n : n + 2] if fall > rise)) for n, rise in enumerate(rises[:-1])]


def frames_at(folder: Path, pulses: list[tuple[int, int]]) -> Path:
    """Images of 32 x 24 whose level is their index, stamped by a clock that is 60 ppm fast and scatters by 20 us."""
    folder.mkdir()
    rng = np.random.default_rng(2)
    with open(folder / "times.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "index", "time_us"])
        for index, (start_us, _) in enumerate(pulses):
            if index not in LOST:
                cv2.imwrite(str(folder / f"{index:05d}.png"), np.full((24, 32), index % 251 + 1, np.uint8))
                stamp_us = 4e9 + 1.00006 * start_us + rng.normal(0, 20)
                table.writerow([f"{index:05d}.png", index, f"{stamp_us:.3f}"])
    return folder


def with_faults(raw: Path, out: Path, missed: set[int], invented: list[Trigger]) -> Path:
    """The same recording from a line that lost some edges and invented others."""
    with open_recording(raw) as source, RecordingWriter(out, source.info.geometry, source=source.info) as writer:
        for packet in source:
            while isinstance(packet, EventBatch) and invented and invented[0].t_us < packet.watermark_us:
                writer.write(invented.pop(0))
            if not (isinstance(packet, Trigger) and packet.t_us in missed):
                writer.write(packet)
    return out


def test_lost_and_spurious_edges_of_a_real_line_cost_only_the_frames_that_lost_both(
    shared_data: Path, tmp_path: Path
) -> None:
    raw = shared_data / "recordings" / RAW
    pulses = edges_of(raw)[:400]
    missed = {pulses[100][0], pulses[150][1], *pulses[200]}
    invented = [Trigger(pulses[50][0] + 130, 6, True), Trigger(pulses[300][1] + 210, 6, False)]
    registration = tmp_path / "scale.json"
    registration.write_text('{"frame_to_events": [[20, 0, 9.5], [0, 20, 9.5], [0, 0, 1]]}')
    source = open_source(
        events={"driver": "auto", "path": str(with_faults(raw, tmp_path / "faults.nire", missed, invented))},
        frames={"driver": "recorded", "path": str(frames_at(tmp_path / "frames", pulses))},
        registration=str(registration),
    )
    assert isinstance(source, HybridSource)
    with source:
        frames = [packet for packet in source if isinstance(packet, Frame)]
    assert {frame.index for frame in frames} == set(range(len(pulses))) - {*LOST, 200}
    for frame in frames:
        start_us, end_us = pulses[frame.index]
        assert abs(frame.exposure_start_us - start_us) <= 1
        assert abs(frame.exposure_end_us - end_us) <= 1
    counters = source.counters
    assert (counters.exposures_estimated, counters.frames_without_edges) == (2, 1)


def test_every_frame_of_a_thousand_a_second_gets_its_own_pulse(shared_data: Path, tmp_path: Path) -> None:
    raw = shared_data / "recordings" / RAW
    pulses = edges_of(raw)[:600]
    registration = tmp_path / "scale.json"
    registration.write_text('{"frame_to_events": [[20, 0, 9.5], [0, 20, 9.5], [0, 0, 1]]}')
    source = open_source(
        events={"driver": "auto", "path": str(raw)},
        frames={"driver": "recorded", "path": str(frames_at(tmp_path / "frames", pulses))},
        registration=str(registration),
    )
    assert isinstance(source, HybridSource)
    taken, events = {}, 0
    with source:
        for packet in source:
            if isinstance(packet, Frame):
                taken[packet.index] = (packet.exposure_start_us, packet.exposure_end_us)
                assert packet.pixels.shape == (480, 640, 1)
                assert packet.pixels[240, 320, 0] == packet.index % 251 + 1
            elif isinstance(packet, EventBatch):
                events += len(packet)
    assert events == 343_474
    assert taken == {index: pulse for index, pulse in enumerate(pulses) if index not in LOST}
    assert source.counters.exposures_exact == len(pulses) - len(LOST)
