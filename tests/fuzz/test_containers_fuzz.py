"""Damaged files of jAER, cAER, ROS, HDF5 and text: the same promise as for all others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from drivers.recordings.aedat import source as aedat
from drivers.recordings.hdf5 import source as hdf5
from drivers.recordings.rosbag import source as rosbag
from drivers.recordings.text import source as text
from tests.drivers.recordings import aedat_files, ros_files, text_files
from tests.fuzz.damage import EXAMPLES, damaged
from tests.fuzz.test_recordings_fuzz import look, most_seconds


def _aedat2(path: Path) -> None:
    words = [aedat_files.davis_event(n * 10, n % 346, n % 260) for n in range(200)]
    aedat_files.write_2(path, [*words, *aedat_files.davis_inertial(2100, (1, 2, 3, 4, 5, 6, 7))])


def _aedat3(path: Path) -> None:
    packets = [
        aedat_files.packet_3(1, [aedat_files.event_3(k, k, k) for k in range(30)]),
        aedat_files.packet_3(2, [aedat_files.frame_3(np.zeros((128, 128, 1), np.uint8), 5, 9)]),
        aedat_files.packet_3(0, [b"\5\0\0\0\1\0\0\0"]),
        aedat_files.packet_3(3, [bytes([1] + [0] * 35)]),
    ]
    aedat_files.write_3(path, packets, source="DVS128")


def _bag(kind: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        pytest.importorskip("rosbags")
        folder = path.parent / kind.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        path.write_bytes(ros_files.KINDS[kind](folder).read_bytes())

    return write


def _hdf5(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = np.arange(40, dtype=np.uint16) % (2 if name == "p" else 40)
        file["images"], file["images_ts"] = np.zeros((2, 40, 40), np.uint8), np.array([3, 9003])


FILES: dict[str, tuple[ModuleType, Callable[[Path], object]]] = {
    "AEDAT 2.0": (aedat, _aedat2),
    "AEDAT 3.1": (aedat, _aedat3),
    **{kind: (rosbag, _bag(kind)) for kind in ("ros 1", "ros 1 lz4", "ros 1 bz2", "mcap", "ros 2 db3")},
    "HDF5": (hdf5, _hdf5),
    "text": (text, lambda path: path.write_text("".join(text_files.line(n) for n in range(60)))),
}


# Hypothesis warns of the large repr of what it found, instead of showing what went wrong.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize("kind", FILES)
def test_damaged_file_gives_packets_and_one_clear_error(kind: str, tmp_path: Path) -> None:
    module, write = FILES[kind]
    path = tmp_path / "file"
    write(path)
    whole = path.read_bytes()
    most_s = most_seconds(module, path)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(damaged(whole))
    def hunt(data: bytes) -> None:
        path.write_bytes(data)
        look(module, path, most_s)

    hunt()
