"""Pairs of images and MATLAB files: events inside exposures, gaps between, holes where half of a pair is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from drivers.detect import open_recording
from drivers.recordings.mat_pairs.matlab import read_arrays
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, SourcePacket
from tests.drivers.packets.made import column_digests
from tests.drivers.recordings import mat_files


def _read(path: Path) -> list[SourcePacket]:
    with open_recording(path) as source:
        return list(source)


def _events(packets: list[SourcePacket], name: str) -> np.ndarray:
    return np.concatenate([getattr(packet, name) for packet in packets if isinstance(packet, EventBatch)])


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "in folders"])
def test_pairs_become_frames_with_their_events_and_gaps_between(tmp_path: Path, nested: bool) -> None:
    packets = _read(mat_files.write(tmp_path / "a", nested=nested))
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    start_us = mat_files.START_US
    assert [(f.index, f.exposure_start_us - start_us, f.exposure_end_us - start_us) for f in frames] == [
        (7, 0, 10_000),
        (8, 15_000, 25_000),
        (9, 30_000, 40_000),
    ]
    assert [int(f.pixels[0, 0, 0]) for f in frames] == [7, 8, 9]
    gaps = [(packet.t0_us - start_us, packet.t1_us - start_us) for packet in packets if isinstance(packet, Gap)]
    assert gaps == [(10_000, 15_000), (25_000, 30_000)]
    t_us = _events(packets, "t_us")
    assert (t_us - start_us).tolist() == mat_files.times_us()
    assert _events(packets, "x").tolist() == [t % 32 for t in mat_files.times_us()]
    assert set(_events(packets, "p").tolist()) == {0, 1}


def test_image_without_events_leaves_a_hole(tmp_path: Path) -> None:
    folder = mat_files.write(tmp_path / "a")
    (folder / "event000008.mat").unlink()
    packets = _read(folder)
    assert [packet.index for packet in packets if isinstance(packet, Frame)] == [7, 9]
    (gap,) = [packet for packet in packets if isinstance(packet, Gap)]
    assert (gap.t0_us - mat_files.START_US, gap.t1_us - mat_files.START_US) == (10_000, 30_000)
    (folder / "000009.png").unlink()
    packets = _read(folder)
    assert [packet.index for packet in packets if isinstance(packet, Frame)] == [7]
    assert _events(packets, "t_us").max() > mat_files.START_US + 30_000


def test_damaged_file_is_told_after_the_pairs_before_it(tmp_path: Path) -> None:
    folder = mat_files.write(tmp_path / "a")
    for spoil, message in (
        (lambda data: data[:300], "event000008.mat cannot be read"),
        (lambda data: b"", "event000008.mat cannot be read"),
    ):
        path = folder / "event000008.mat"
        whole = path.read_bytes()
        path.write_bytes(spoil(whole))
        packets: list[SourcePacket] = []
        with open_recording(folder) as source, pytest.raises(RecordingDamaged, match=message):
            packets.extend(source)
        assert [packet.index for packet in packets if isinstance(packet, Frame)] == [7]
        path.write_bytes(whole)


@pytest.mark.parametrize(("name", "value"), [("timestamp", np.nan), ("polarity", 9)])
def test_bad_event_is_told_after_those_before_it(tmp_path: Path, name: str, value: float) -> None:
    folder = mat_files.write(tmp_path / "a")
    whole = _events(_read(folder), "t_us")
    path = folder / "event000008.mat"
    values = {key: column for key, column in scipy.io.loadmat(path).items() if not key.startswith("__")}
    column = values[f"section_event_{name}"].astype(np.float64)
    column.ravel()[3] = value
    scipy.io.savemat(path, {**values, f"section_event_{name}": column})
    packets: list[SourcePacket] = []
    with (
        open_recording(folder) as source,
        pytest.raises(RecordingDamaged, match=r"event 3 of event000008.mat: its .*all before was delivered"),
    ):
        packets.extend(source)
    assert [packet.index for packet in packets if isinstance(packet, Frame)] == [7]
    found = _events(packets, "t_us")
    np.testing.assert_array_equal(found, whole[: len(found)])
    assert len(found) == np.count_nonzero(whole < mat_files.START_US + 12_500) + 3


def test_folder_without_a_pair_is_none_of_these(tmp_path: Path) -> None:
    folder = mat_files.write(tmp_path / "a")
    for image in folder.glob("*.png"):
        image.unlink()
    with pytest.raises(SourceError, match="is a folder without a recording"):
        open_recording(folder)


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_of_matlab_are_as_scipy_wrote_them(tmp_path: Path, compressed: bool) -> None:
    values = {
        "double": np.linspace(0, 1, 7)[:, None],
        "byte": np.arange(3, dtype=np.uint8),
        "small": np.array([[5.0]]),
        "text": "words",
        "cells": np.array([1, "a"], object),
        "wide": np.arange(300, dtype=np.int16)[None],
    }
    scipy.io.savemat(tmp_path / "a.mat", values, do_compression=compressed)
    arrays = read_arrays((tmp_path / "a.mat").read_bytes())
    assert sorted(arrays) == ["byte", "double", "small", "wide"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, np.ravel(values[name]))


def test_file_of_a_later_level_is_not_damaged(tmp_path: Path) -> None:
    folder = mat_files.write(tmp_path / "a")
    (folder / "event000007.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(600, b"\0"))
    with open_recording(folder) as source, pytest.raises(SourceError, match=r"-v7.3, which is not read") as told:
        list(source)
    assert not isinstance(told.value, RecordingDamaged)


@pytest.mark.real
def test_real_pairs_are_the_rows_of_the_repacked_recording(shared_data: Path) -> None:
    packets = _read(shared_data / "recordings" / "eslnet_cups_original_sample")
    with open_recording(shared_data / "recordings" / "eslnet_cups_davis346.npz") as source:
        whole = list(source)
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert [frame.index for frame in frames] == [15, 16]
    same = [packet for packet in whole if isinstance(packet, Frame) and packet.index in (15, 16)]
    ours, theirs = column_digests(frames), column_digests(same)
    assert (ours["frames"], ours["pixels"]) == (theirs["frames"], theirs["pixels"])
    t_us = _events(whole, "t_us")
    inside = (t_us >= frames[0].exposure_start_us) & (t_us <= frames[1].exposure_end_us)
    for name in ("t_us", "x", "y", "p"):
        np.testing.assert_array_equal(_events(packets, name), _events(whole, name)[inside])
