"""Metavision's HDF5 recordings: told from their groups, read in pieces, and the filter that is missing is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.detect import open_recording
from drivers.recordings import metavision_hdf5
from nire.errors import ConfigError, SourceError
from nire.types import EventBatch, Geometry, Trigger
from tests.drivers.prophesee.test_evt import edges_of, events_of
from tests.drivers.recordings.metavision_files import EDGES, EVENTS, write

h5py = pytest.importorskip("h5py")


def test_events_and_edges_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metavision_hdf5, "_PIECE", 700)
    with open_recording(write(tmp_path / "a")) as source:
        assert source.info.geometry == Geometry(64, 48)
        assert source.info.duration_us == EVENTS[-1][0] - EVENTS[0][0]
        packets: list[Any] = list(source)
    assert events_of(packets) == EVENTS
    assert edges_of(packets) == EDGES
    newest_us = 0
    for packet in packets:
        newest_us = packet.watermark_us if isinstance(packet, EventBatch) else newest_us
        assert not isinstance(packet, Trigger) or packet.t_us <= newest_us


def test_missing_filter_is_named_with_what_to_install(tmp_path: Path) -> None:
    path = write(tmp_path / "a", compression=metavision_hdf5._ECF)
    if h5py.h5z.filter_avail(metavision_hdf5._ECF):
        pytest.skip("this machine has the filter ECF")
    with pytest.raises(SourceError, match=r"filter ECF \(36559\).*HDF5_PLUGIN_PATH"), open_recording(path):
        pass


def test_size_is_asked_for_where_the_file_does_not_say(tmp_path: Path) -> None:
    path = write(tmp_path / "a", geometry=None)
    with pytest.raises(SourceError, match="set width and height"), open_recording(path):
        pass
    with open_recording(path, width=64, height=48) as source:
        assert source.info.geometry == Geometry(64, 48)
    with pytest.raises(ConfigError, match="set both"):
        metavision_hdf5.open_source(path, width=64)


def test_file_that_is_cut_is_no_traceback(tmp_path: Path) -> None:
    path = write(tmp_path / "a")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SourceError, match="cannot read"), metavision_hdf5.open_source(path):
        pass
