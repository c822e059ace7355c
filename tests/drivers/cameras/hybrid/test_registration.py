"""Where the event sensor's pixels lie in the frame: every kind of file says the same, and lenses are undone."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers.cameras.hybrid.registration import from_homography, load_registration
from nire.errors import ConfigError

SIZES = {"frame_size": (80, 60), "event_size": (40, 30)}
HALF = np.array([[0.5, 0, 1.0], [0, 0.5, -2.0], [0, 0, 1]])


def test_every_kind_of_file_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"frame_to_events = {HALF.tolist()}")
    (tmp_path / "a.json").write_text(json.dumps({"events_to_frame": np.linalg.inv(HALF).tolist()}))
    np.save(tmp_path / "a.npy", HALF)
    np.savez(tmp_path / "a.npz", frame_to_events=HALF)
    storage = cv2.FileStorage(str(tmp_path / "a.yml"), cv2.FILE_STORAGE_WRITE)
    storage.write("frame_to_events", HALF)
    storage.release()
    expected = from_homography(HALF, **SIZES)
    assert expected.shrink == 2
    assert (expected.row_offset, expected.row_scale) == pytest.approx((4.0, 2.0))
    assert 0.5 < expected.seen.mean() < 1
    for name in ("a.toml", "a.json", "a.npy", "a.npz", "a.yml"):
        found = load_registration(tmp_path / name, **SIZES)
        np.testing.assert_allclose(found.columns, expected.columns, atol=1e-3)
        np.testing.assert_allclose(found.rows, expected.rows, atol=1e-3)


def test_stereo_calibration_puts_a_point_where_both_cameras_see_it(tmp_path: Path) -> None:
    frame_matrix = np.array([[90.0, 0, 40], [0, 90, 30], [0, 0, 1]])
    event_matrix = np.array([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]])
    bent, turn = np.array([-0.2, 0.05, 0, 0, 0.0]), np.array([0.01, -0.03, 0.02])
    rotation, shift = cv2.Rodrigues(turn)[0], np.array([[0.06], [0.0], [0.01]])
    storage = cv2.FileStorage(str(tmp_path / "stereo.yml"), cv2.FILE_STORAGE_WRITE)
    values = {"M1": frame_matrix, "D1": bent, "M2": event_matrix, "D2": 0.5 * bent, "R": rotation, "T": shift}
    for name, value in values.items():
        storage.write(name, value)
    storage.release()
    found = load_registration(tmp_path / "stereo.yml", depth=2.0, **SIZES)
    for x, y in ((8, 6), (20, 15), (33, 25)):
        ray = cv2.undistortPoints(np.array([[[x, y]]], float), event_matrix, 0.5 * bent)[0, 0]
        there = 2.0 * np.array([*ray, 1.0])  # by the event camera
        in_frame = rotation.T @ (there - shift[:, 0])  # OpenCV: second = R first + T
        at = cv2.projectPoints(in_frame[None], np.zeros(3), np.zeros(3), frame_matrix, bent)[0][0, 0]
        place = (np.array([found.columns[y, x], found.rows[y, x]]) + 0.5) * found.shrink - 0.5
        np.testing.assert_allclose(place, at, atol=0.01)
    far = load_registration(tmp_path / "stereo.yml", **SIZES)
    assert np.abs(far.columns - found.columns).max() > 0.5


def test_files_that_say_nothing_are_refused(tmp_path: Path) -> None:
    for name, content, words in (
        ("a.toml", "homography = 3", "neither frame_to_events"),
        ("b.toml", "frame_to_events = [[1, 0], [0, 1]]", "3 x 3"),
        ("c.toml", "frame_to_events = [[0,0,0],[0,0,0],[0,0,0]]", "invertible"),
        ("d.json", "{", "cannot be understood"),
        ("e.toml", "frame_to_events = [[1,0,900],[0,1,900],[0,0,1]]", "sees nothing"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=words):
            load_registration(tmp_path / name, **SIZES)
