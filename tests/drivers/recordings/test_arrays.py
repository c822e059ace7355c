"""Events as NumPy arrays, alone, in numbered pieces, and beside images as Time Lens has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivers.detect import open_recording
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, SourcePacket

COUNT = 6000
T_US = 1_000_000 + 10 * np.arange(COUNT)
X, Y, P = np.arange(COUNT) % 64, np.arange(COUNT) % 48, np.arange(COUNT) % 2


def _read(path: Path, **settings: Any) -> list[SourcePacket]:
    with open_recording(path, **settings) as source:
        return list(source)


def _is_as_written(packets: list[SourcePacket]) -> bool:
    batches = [packet for packet in packets if isinstance(packet, EventBatch)]
    found = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("t_us", "x", "y", "p"))
    return all(np.array_equal(ours, theirs) for ours, theirs in zip(found, (T_US, X, Y, P), strict=True))


def _records() -> np.ndarray:
    records = np.zeros(COUNT, [("x", "<u2"), ("y", "<u2"), ("p", "?"), ("t", "<i8")])
    for name, column in zip("txyp", (T_US, X, Y, P), strict=True):
        records[name] = column
    return records


@pytest.mark.parametrize("kind", ["npz", "npz s", "npz events", "records", "x y t p", "t x y p"])
def test_arrays_of_events_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.npz" if kind.startswith("npz") else "a.npy")
    if kind == "npz":
        np.savez_compressed(path, x=X.astype(np.uint16), y=Y.astype(np.uint16), t=T_US, p=P.astype(np.uint8))
    elif kind == "npz s":
        np.savez(path, xs=X, ys=Y, ts=T_US * 1e-6, ps=P * 2 - 1)
    elif kind == "npz events":
        np.savez(path, events=np.stack([T_US, X, Y, P], axis=1))
    elif kind == "records":
        np.save(path, _records())
    else:
        columns = {"t": T_US * 1e-6, "x": X, "y": Y, "p": P}
        np.save(path, np.stack([columns[name] for name in kind.split()], axis=1))
    packets = _read(path)
    assert _is_as_written(packets)
    with open_recording(path) as source:
        assert source.info.geometry == Geometry(64, 48)
        assert not source.info.has_frames


def _write_time_lens(folder: Path, *, parts: int = 1) -> Path:
    for name in ("events_aligned", "images_corrected"):
        (folder / name).mkdir(parents=True)
    for n in range(3):
        part = slice(2000 * n, 2000 * (n + 1))
        x, y = ((axis[part] * parts).astype(np.uint16) for axis in (X, Y))
        np.savez(folder / f"events_aligned/{n:06d}.npz", x=x, y=y, t=T_US[part], p=P[part])
    for n in range(4):
        assert cv2.imwrite(str(folder / f"images_corrected/{n:06d}.png"), np.full((50, 80), n, np.uint8))
    times = "".join(f"{1_000_000 + 20_000 * n}\n" for n in range(4))
    (folder / "images_corrected/timestamp.txt").write_text(times)
    return folder


def test_folder_of_time_lens_has_pieces_of_events_between_its_images(tmp_path: Path) -> None:
    folder = _write_time_lens(tmp_path / "a")
    packets = _read(folder)
    assert _is_as_written(packets)
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert [(frame.exposure_start_us, frame.exposure_known) for frame in frames] == [
        (1_000_000 + 20_000 * n, False) for n in range(4)
    ]
    with open_recording(folder) as source:
        assert source.info.geometry == Geometry(80, 50)  # of the images: the arrays do not say it
    assert _is_as_written(_read(folder / "events_aligned"))


def test_coordinates_in_parts_of_a_pixel_are_told_by_their_size(tmp_path: Path) -> None:
    global_x = 150 + X  # up to 213: 32 times that is on no sensor
    folder = tmp_path / "events"
    folder.mkdir()
    x = (global_x * 32 + 7).astype(np.uint16)
    x[5] = 65_530  # left of the first column
    np.savez(folder / "000000.npz", x=x, y=(Y * 32).astype(np.uint16), timestamp=T_US, polarity=P)
    with open_recording(folder) as source:
        assert "1/32 pixel" in [found.value for found in source.info.found]
        batch = next(packet for packet in source if isinstance(packet, EventBatch))
    assert batch.x[:5].tolist() == global_x[:5].tolist()
    assert batch.x[5] == 0
    assert batch.y[:5].tolist() == Y[:5].tolist()


@pytest.mark.parametrize("beyond", [65_536, 1 << 20, 1 << 40])
def test_coordinates_that_no_sensor_has_are_refused(tmp_path: Path, beyond: int) -> None:
    for name, columns in (("x", (X + beyond, Y)), ("y", (X, Y.astype(np.int64) + beyond))):
        np.savez(tmp_path / "a.npz", x=columns[0].astype(np.int64), y=columns[1], t=T_US, p=P)
        with pytest.raises(SourceError, match="no sensor has so many pixels"), open_recording(tmp_path / "a.npz"):
            pytest.fail(f"{name} was believed")


def test_damage_is_told_after_the_pieces_before_it(tmp_path: Path) -> None:
    folder = _write_time_lens(tmp_path / "a") / "events_aligned"
    piece = folder / "000001.npz"
    piece.write_bytes(piece.read_bytes()[:400])
    packets: list[SourcePacket] = []
    with open_recording(folder, width=64, height=48) as source, pytest.raises(RecordingDamaged, match=r"000001.npz"):
        packets.extend(source)
    assert sum(len(packet) for packet in packets if isinstance(packet, EventBatch)) == 2000


@pytest.mark.parametrize(("column", "value"), [(0, np.nan), (0, np.inf), (3, 5)])
def test_events_before_a_bad_one_are_given(tmp_path: Path, column: int, value: float) -> None:
    matrix = np.stack([T_US * 1e-6, X, Y, P], axis=1)
    matrix[4321, column] = value
    np.save(tmp_path / "a.npy", matrix)
    packets: list[SourcePacket] = []
    with open_recording(tmp_path / "a.npy") as source, pytest.raises(RecordingDamaged, match=r"event 4321: its "):
        packets.extend(source)
    (batch,) = [packet for packet in packets if isinstance(packet, EventBatch)]
    np.testing.assert_array_equal(batch.t_us, T_US[:4321])
    np.testing.assert_array_equal(batch.p, P[:4321])


def test_arrays_that_are_no_events_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 3)))
    np.save(tmp_path / "b.npy", np.array([{"t": 1}], dtype=object))
    np.savez(tmp_path / "c.npz", x=X, y=Y, t=T_US, p=P % 3 + 1)
    for name, message in (("a.npy", "no recording"), ("b.npy", "no recording"), ("c.npz", "polarity")):
        with pytest.raises(SourceError, match=message):
            _read(tmp_path / name)


def test_claims_of_a_head_get_no_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack([T_US, X, Y, P], axis=1))
    data = (tmp_path / "a.npy").read_bytes().replace(b"(6000, 4)", b"(1 << 40)"[:9])
    (tmp_path / "a.npy").write_bytes(data.replace(b"(1 << 40)", b"(9" + b"0" * 3 + b", 4)"))
    with pytest.raises(SourceError):
        _read(tmp_path / "a.npy")


def test_frames_with_exposures_and_events_that_go_on_between_them(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    starts = 1_000_000 + 20_000 * np.arange(3)
    np.savez(
        path,
        frames=np.zeros((3, 48, 64), np.uint8),
        exposure_start_us=starts,
        exposure_end_us=starts + 5000,
        t_us=T_US,
        x=X,
        y=Y,
        p=P,
    )
    packets = _read(path)
    assert _is_as_written(packets)
    assert not [packet for packet in packets if isinstance(packet, Gap)]
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert [(f.index, f.exposure_start_us, f.exposure_end_us, f.exposure_known) for f in frames] == [
        (n, int(starts[n]), int(starts[n]) + 5000, True) for n in range(3)
    ]


def test_images_of_another_camera_are_told_by_their_size(tmp_path: Path) -> None:
    folder = _write_time_lens(tmp_path / "a")
    for n in range(4):
        assert cv2.imwrite(str(folder / f"images_corrected/{n:06d}.png"), np.full((100, 200), n, np.uint8))
    with pytest.raises(SourceError, match=r"images are 200 x 100 pixels, its events use 64 x 48.*hybrid"):
        _read(folder)
    assert _is_as_written(_read(folder, event_settings={"width": 200, "height": 100}))


def test_events_that_are_not_sorted_are_sorted_beside_frames(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(COUNT)
    columns = {name: column[order] for name, column in zip(("t_us", "x", "y", "p"), (T_US, X, Y, P), strict=True)}
    starts = 1_000_000 + 20_000 * np.arange(3)
    frames = {"frames": np.zeros((3, 48, 64), np.uint8), "exposure_start_us": starts, "exposure_end_us": starts + 5000}
    np.savez(tmp_path / "a.npz", **frames, **columns)
    assert _is_as_written(_read(tmp_path / "a.npz"))
