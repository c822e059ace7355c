"""The real RAW recordings: counted, their edges dated, and compared with a second reader column by column."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.packets.cleaning import cleaned
from nire.types import EventBatch, Geometry, SourcePacket, Trigger
from tests.drivers.packets.made import column_digests

pytestmark = pytest.mark.real

# Name -> encoding, sensor, events, edges, time of the first event.
RAW = {
    "faery_evt2_640x480.raw": ("evt2", Geometry(640, 480), 521_252, 0, 913_716_224),
    "ecc_evt3_trigger_1280x720.raw": ("evt3", Geometry(1280, 720), 82_469, 2, 14_224_870),
    "ecp_test_events_1_640x480_evt3_trig.raw": ("evt3", Geometry(640, 480), 343_474, 4157, 7_139_845),
}


@pytest.fixture(params=RAW)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _read(path: Path) -> list[SourcePacket]:
    with open_recording(path) as source:
        return list(source)


def _column(packets: list[SourcePacket], name: str) -> np.ndarray:
    return np.concatenate([getattr(packet, name) for packet in packets if isinstance(packet, EventBatch)])


def test_raw_is_counted_and_its_sensor_known(shared_data: Path, name: str) -> None:
    _, geometry, events, edges, first_us = RAW[name]
    with open_recording(shared_data / "recordings" / name) as source:
        assert source.info.geometry == geometry
        packets = list(source)
    assert _column(packets, "t_us").size == events
    assert _column(packets, "t_us")[0] == first_us
    assert sum(isinstance(packet, Trigger) for packet in packets) == edges


def test_raw_agrees_with_faery(shared_data: Path, name: str) -> None:
    faery = pytest.importorskip("faery")
    path = shared_data / "recordings" / name
    packets = _read(path)
    with faery.extension.evt.Decoder(path, (1280, 720), RAW[name][0]) as decoder:
        theirs = list(decoder)
    events = np.concatenate([packet["events"] for packet in theirs if "events" in packet])
    for ours, field in (("t_us", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        np.testing.assert_array_equal(_column(packets, ours), events[field].astype(np.int64))
    edges = [tuple(row) for packet in theirs if "triggers" in packet for row in packet["triggers"].tolist()]
    assert [(p.t_us, p.channel, p.rising) for p in packets if isinstance(p, Trigger)] == edges


def test_square_wave_of_1_khz_gives_edges_that_alternate_every_500_us(shared_data: Path) -> None:
    packets = _read(shared_data / "recordings" / "ecp_test_events_1_640x480_evt3_trig.raw")
    edges = [packet for packet in packets if isinstance(packet, Trigger)]
    assert {edge.channel for edge in edges} == {6}
    assert all(a.rising != b.rising for a, b in itertools.pairwise(edges))
    assert set(np.diff([edge.t_us for edge in edges])) <= {498, 499, 500, 501, 502}


def test_real_raw_passes_the_cleaning_untouched(shared_data: Path, name: str) -> None:
    with open_recording(shared_data / "recordings" / name) as source:
        stream = cleaned(source)
        assert sum(1 for _ in stream) > 0
    counters = stream.counters
    assert (counters.events_clamped, counters.events_outside, counters.clock_resets) == (0, 0, 0)


def test_small_batches_of_a_real_raw_hold_the_same_columns(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared_data / "recordings" / "ecc_evt3_trigger_1280x720.raw"
    with open_recording(path) as source:
        whole = column_digests(source)
        monkeypatch.setattr("drivers.prophesee.file._CHUNK_BYTES", 1013)
        assert column_digests(source) == whole
