"""A library that crashes or hangs over a file does so in a child process, and the recording is told as damaged."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from drivers import probe
from drivers.recording_file import RecordingFile
from drivers.source import SourceInfo
from nire.errors import RecordingDamaged
from nire.types import Geometry
from tests.drivers.recordings import hdf5_files


def _driver(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a module `odd_driver` that a child process finds."""
    (folder / "odd_driver.py").write_text(f"def open_source(path):\n    {body}\n")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os; os.abort()", "crashed (SIGABRT)"),
        ("import time; time.sleep(1000)", "did not come back within 5 s"),
        ("raise ValueError", ""),
    ],
)
def test_what_happens_in_the_child_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    _driver(tmp_path, body, monkeypatch)
    told = probe.what_happens("odd_driver", tmp_path, limit_s=5)
    assert words in told
    assert bool(words) == bool(told)


def test_file_that_crashes_its_library_is_a_damaged_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(RecordingFile):
        may_crash = "odd_driver"

        def _look(self) -> SourceInfo:
            return SourceInfo("odd", Geometry(1, 1))

    (tmp_path / "a.odd").write_text("odd")
    with Odd(tmp_path / "a.odd") as source:  # there is no such driver: an error of Python, which is not the child's
        assert source.info.name == "odd"
    _driver(tmp_path, "import os; os.abort()", monkeypatch)
    with pytest.raises(RecordingDamaged, match="SIGABRT"), Odd(tmp_path / "a.odd"):
        pass


def test_good_file_passes(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    assert probe.what_happens("drivers.recordings.hdf5", hdf5_files.write_common(tmp_path / "a.h5")) == ""
