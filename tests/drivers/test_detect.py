"""Drivers are found by name, recordings by content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.detect import driver_names, open_driver, open_recording
from nire.errors import ConfigError, SourceError
from tests.golden import example


def test_all_drivers_are_found() -> None:
    assert {"aedat4", "npz", "recording", "synthetic"} <= set(driver_names())
    assert not {"source", "pacing", "hygiene", "detect", "chunks"} & set(driver_names())


def test_recording_with_a_wrong_suffix_opens(tmp_path: Path) -> None:
    path = example.write_recording(tmp_path / "a.nire").rename(tmp_path / "a.mp4")
    with open_recording(path) as source:
        assert (source.info.geometry.width, source.info.geometry.height) == (100, 80)


def test_every_bad_path_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty.aedat4").touch()
    (tmp_path / "text.aedat4").write_text("hello, this is no recording")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name, message in {
        "none.aedat4": "there is no file",
        ".": "is a folder",
        "empty.aedat4": "is empty",
        "text.aedat4": "is no recording that can be read: it begins with b'hello",
        "other.npz": "is no recording",
    }.items():
        with pytest.raises(SourceError, match=message):
            open_recording(tmp_path / name)


def test_unknown_driver_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'synthetic'"):
        open_driver("syntetic")
    with pytest.raises(ConfigError, match="cannot be imported"):
        open_driver("no.such.module")


def test_unknown_setting_of_a_driver_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'aedat4' has no setting 'gap'; did you mean 'gaps'"):
        open_driver("aedat4", path="x", gap="none")
    with pytest.raises(ConfigError, match="'aedat4' needs path"):
        open_driver("aedat4")


def test_driver_outside_the_repository_opens_by_its_dotted_name() -> None:
    assert open_driver("drivers.cameras.synthetic", width=32, height=32).info.geometry.width == 32
