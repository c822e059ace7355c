"""Damaged files of recordings that are several files, and of those with images, arrays and chunks: the same promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from drivers.recordings import arrays, image_folder, metavision_hdf5, video
from drivers.recordings.mat_pairs import source as mat_pairs
from drivers.recordings.recording import source as recording
from drivers.recordings.text import source as text
from tests.drivers.packets.made import GEOMETRY, events, frame
from tests.drivers.recordings import image_folders, mat_files, metavision_files, text_files, videos
from tests.fuzz.damage import EXAMPLES, damaged
from tests.fuzz.test_recordings_fuzz import look, most_seconds

Written = tuple[Path, Path]
"""The recording, and the file of it that gets damaged."""


def _mat(name: str) -> Callable[[Path], Written]:
    return lambda folder: (mat_files.write(folder), folder / name)


def _images(name: str) -> Callable[[Path], Written]:
    return lambda folder: (image_folders.write(folder), folder / name)


def _text(name: str) -> Callable[[Path], Written]:
    return lambda folder: (text_files.write_folder(folder, exposures=True), folder / name)


def _zip(folder: Path) -> Written:
    path = text_files.zipped(text_files.write_folder(folder))
    return path, path


def _arrays(suffix: str) -> Callable[[Path], Written]:
    def write(folder: Path) -> Written:
        path = folder / f"a.{suffix}"
        folder.mkdir()
        t = np.arange(0, 4000, 9)
        columns = {"t": t, "x": t % 32, "y": t % 24, "p": t % 2}
        if suffix == "npz":
            np.savez(path, **columns)
        else:
            np.save(path, np.stack(list(columns.values()), axis=1))
        return path, path

    return write


def _nire(folder: Path) -> Written:
    path = folder / "a.nire"
    folder.mkdir()
    with recording.RecordingWriter(path, GEOMETRY) as writer:
        for packet in (events([1, 2, 3]), frame(0, 0, 2), events([9, 12]), frame(1, 10, 11)):
            writer.write(packet)
    return path, path


def _metavision(folder: Path) -> Written:
    pytest.importorskip("h5py")
    path = folder / "a.hdf5"
    folder.mkdir()
    metavision_files.write(path)
    return path, path


def _video(folder: Path) -> Written:
    folder.mkdir()
    path = videos.write(folder / "a.avi", videos.sliding(size=(32, 24), count=4))
    return path, path


FILES: dict[str, tuple[ModuleType, Callable[[Path], Written]]] = {
    "mat": (mat_pairs, _mat("event000008.mat")),
    "image beside mat": (mat_pairs, _mat("000008.png")),
    "table of times": (image_folder, _images("timestamps.txt")),
    "image of a folder": (image_folder, _images("images/img10.png")),
    "events of a folder": (image_folder, _images("events.aedat4")),
    "images.txt": (text, _text("images.txt")),
    "image of a text": (text, _text("images/frame_00000001.png")),
    "text zip": (text, _zip),
    "arrays npz": (arrays, _arrays("npz")),
    "arrays npy": (arrays, _arrays("npy")),
    "nire": (recording, _nire),
    "Metavision HDF5": (metavision_hdf5, _metavision),
    "video": (video, _video),
}


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize("kind", FILES)
def test_damaged_file_of_a_recording_gives_packets_and_one_clear_error(kind: str, tmp_path: Path) -> None:
    module, write = FILES[kind]
    path, file = write(tmp_path / "recording")
    whole = file.read_bytes()
    most_s = most_seconds(module, path)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(damaged(whole))
    def hunt(data: bytes) -> None:
        file.write_bytes(data)
        look(module, path, most_s)

    hunt()
