"""HDF5 in its layouts: columns, records, matrices, single images and stacks; damage and what is missing."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.recordings.hdf5.source import open_source
from drivers.recordings.hdf5.writer import create_writer
from drivers.source import SourceInfo
from nire.errors import ConfigError, RecordingDamaged, SdkMissing, SourceError
from nire.install import pip_install
from nire.types import EventBatch, Frame, Gap, Geometry, SourcePacket, Trigger
from tests.drivers.packets.made import GEOMETRY, column_digests, events, frame
from tests.drivers.recordings.hdf5_files import COUNT, T_US, P, X, Y, write_common

h5py = pytest.importorskip("h5py")


def _read(path: Path, **settings: Any) -> list[SourcePacket]:
    with open_recording(path, **settings) as source:
        return list(source)


def _columns(packets: list[SourcePacket]) -> dict[str, np.ndarray]:
    batches = [packet for packet in packets if isinstance(packet, EventBatch)]
    return {name: np.concatenate([getattr(b, name) for b in batches]) for name in ("t_us", "x", "y", "p")}


def _is_as_written(packets: list[SourcePacket], *, offset_us: int = 0) -> bool:
    found = _columns(packets)
    pairs = ((found["t_us"], T_US + offset_us), (found["x"], X), (found["y"], Y), (found["p"], P))
    return all(np.array_equal(a, b) for a, b in pairs)


def test_common_layout_with_exposures(tmp_path: Path) -> None:
    packets = _read(write_common(tmp_path / "a.h5"))
    assert _is_as_written(packets)
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert [(f.exposure_start_us, f.exposure_end_us, f.exposure_known) for f in frames] == [
        (4000, 6000, True),
        (14_000, 16_000, True),
        (24_000, 26_000, True),
    ]
    assert frames[1].pixels.ravel()[:3].tolist() == [(48 * 64 + n) % 256 for n in range(3)]


def test_dsec_has_an_offset_and_a_known_sensor(tmp_path: Path) -> None:
    plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "events.h5"
    with h5py.File(path, "w") as file:
        for name, column in zip("txyp", (T_US, X, Y, P), strict=True):
            kind = np.uint32 if name == "t" else np.uint16
            file.create_dataset(f"events/{name}", data=column.astype(kind), **plugin.Blosc())
        file["ms_to_idx"] = np.searchsorted(T_US, np.arange(0, 30_000, 1000))
        file["t_offset"] = 50_000_000_000
    with open_recording(path) as source:
        assert source.info.geometry == Geometry(640, 480)
        assert not source.info.has_frames
        assert source.info.duration_us == (COUNT - 1) * 10
        assert _is_as_written(list(source), offset_us=50_000_000_000)


@pytest.mark.parametrize(
    ("unit", "scale", "offset"),
    [("s", 1e-6, 1.000222), ("ms", 1e-3, 1000.222), ("us", 1, 1_000_222), ("ns", 1000, [1_000_222_000])],
)
def test_offset_is_in_the_unit_of_the_times(tmp_path: Path, unit: str, scale: float, offset: Any) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, column in zip("txyp", (T_US * scale, X, Y, P), strict=True):
            file[f"events/{name}"] = column
        file["events/t"].attrs["unit"] = unit
        file["t_offset"] = offset
    assert _is_as_written(_read(path), offset_us=1_000_222)


def test_offset_that_is_no_time_in_the_unit_of_the_times_is_refused(tmp_path: Path) -> None:
    path = write_common(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["events/t"]
        file["events/t"] = T_US * 1e-6
        file["t_offset"] = 1_700_000_000_000_000  # microseconds
    with pytest.raises(SourceError, match=r"t_offset is 1700000000000000, which is no time in s.*time_unit"):
        _read(path)


def test_single_images_with_seconds_and_signs(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["sensor_resolution"] = (48, 64)
        names = {"ts": T_US * 1e-6, "xs": X, "ys": Y, "ps": P.astype(np.int8) * 2 - 1}
        for name, column in names.items():
            file[f"events/{name}"] = column
        for n, t in enumerate((0.005, 0.015)):
            file[f"images/image{n:09d}"] = np.full((48, 64), 10 * n, np.uint8)
            file[f"images/image{n:09d}"].attrs["timestamp"] = t
    packets = _read(path)
    assert _is_as_written(packets)
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert [(f.exposure_start_us, f.exposure_end_us, f.exposure_known) for f in frames] == [
        (5000, 5000, False),
        (15_000, 15_000, False),
    ]
    assert [frame.pixels.max() for frame in frames] == [0, 10]


def test_single_images_are_in_the_order_of_their_times_whatever_they_are_called(tmp_path: Path) -> None:
    numbers = range(5, 15)  # as text, image10 comes before image5
    for name, offsets in {"numbers": numbers, "names tell nothing": reversed(numbers), "same time": [5] * 10}.items():
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            for letter, column in zip("txyp", (T_US, X, Y, P), strict=True):
                file[f"events/{letter}"] = column
            for n, offset in zip(numbers, offsets, strict=True):
                file[f"images/image{n}"] = np.full((48, 64), n, np.uint8)
                file[f"images/image{n}"].attrs["timestamp"] = 2000 * offset
        frames = [packet for packet in _read(path, time_unit="us") if isinstance(packet, Frame)]
        order = [int(frame.pixels[0, 0, 0]) for frame in frames]
        assert order == sorted(order, reverse=name == "names tell nothing")
        assert [frame.index for frame in frames] == list(range(10))
        if name != "same time":
            assert [frame.exposure_start_us for frame in frames] == [2000 * n for n in numbers]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.arange(2) * 10_000, r"a.h5 has 3 images in images, but 2 times in images_ts. To fix it, write a time"),
        (np.arange(4) * 10_000, r"has 3 images in images, but 4 times in images_ts"),
        (np.arange(6).reshape(3, 2) * 5000, r"images_ts the shape \(3, 2\), expected one time .*exposure_start_us"),
    ],
    ids=["too few", "too many", "pairs"],
)
def test_images_whose_times_are_not_theirs_are_refused(tmp_path: Path, times: np.ndarray, message: str) -> None:
    path = write_common(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["images_ts"]
        file["images_ts"] = times
    with pytest.raises(SourceError, match=message) as told:
        _read(path)
    assert not isinstance(told.value, RecordingDamaged)
    with h5py.File(path, "a") as file:
        file["image_ts"] = np.array([5000, 15_000, 25_000])  # these are
    assert sum(isinstance(packet, Frame) for packet in _read(path)) == 3


def test_images_without_times_are_named_and_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stack = write_common(tmp_path / "stack.h5")
    single = _with_image(tmp_path / "single.h5", np.zeros((48, 64), np.uint8))
    with h5py.File(stack, "a") as file, h5py.File(single, "a") as other:
        del file["images_ts"]
        for image in other["images"].values():
            del image.attrs["timestamp"]
    for path in (stack, single):
        caplog.clear()
        with open_recording(path) as source:
            assert [(s.name, s.taken) for s in source.info.streams] == [("events", True), ("images", False)]
            assert not [packet for packet in source if isinstance(packet, Frame)]
        assert "the images in images have no times and are not read" in caplog.text


def test_single_images_of_which_some_have_no_time_are_refused(tmp_path: Path) -> None:
    path = _with_image(tmp_path / "a.h5", np.zeros((48, 64), np.uint8))
    with h5py.File(path, "a") as file:
        file["images/calibration"] = np.eye(3)  # no image
    assert sum(isinstance(packet, Frame) for packet in _read(path)) == 2
    with h5py.File(path, "a") as file:
        del file["images/image000000001"].attrs["timestamp"]
    with pytest.raises(SourceError, match=r"2 images in images, but only 1 of them have the attribute timestamp"):
        _read(path)


def test_columns_of_one_number_in_a_row_are_read_and_of_more_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, column in zip("txyp", (T_US, X, Y, P), strict=True):
            file[f"events/{name}"] = column[:, None]
    assert _is_as_written(_read(path))
    with h5py.File(path, "a") as file:
        del file["events/x"]
        file["events/x"] = np.stack([X, Y], axis=1)
    with pytest.raises(SourceError, match=r"t \(3000, 1\), x \(3000, 2\), .* expected \(N,\)") as told:
        _read(path)
    assert not isinstance(told.value, RecordingDamaged)


def test_matrix_of_mvsec_and_its_images(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["davis/left/events"] = np.stack([X, Y, 1_500_000_000 + T_US * 1e-6, P * 2.0 - 1], axis=1)
        file["davis/left/image_raw"] = np.zeros((2, 48, 64), np.uint8)
        file["davis/left/image_raw_ts"] = np.array([1_500_000_000.01, 1_500_000_000.02])
    packets = _read(path)
    assert _is_as_written(packets, offset_us=1_500_000_000_000_000)
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert [frame.exposure_start_us - 1_500_000_000_000_000 for frame in frames] == [10_000, 20_000]


def test_records_of_another_unit_without_a_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.h5"
    records = np.zeros(COUNT, [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
    for name, column in zip("txyp", (T_US * 1000, X, Y, P), strict=True):
        records[name] = column
    with h5py.File(path, "w") as file:
        file["events"] = records
    with open_recording(path, time_unit="ns") as source:
        assert source.info.geometry == Geometry(64, 48)
        assert _is_as_written(list(source))
    assert "taken from its largest coordinates" in caplog.text
    with open_source(path, width=100, height=90, time_unit="ns") as source:
        assert source.info.geometry == Geometry(100, 90)
    # 100 events a second, or 100,000: both can be.
    with pytest.raises(SourceError, match="time_unit"), open_recording(path):
        pass


def test_colours_are_kept_in_any_order_of_axes(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 0] = 200
    for name, stack in {
        "last": image[None],
        "first": np.moveaxis(image, 2, 0)[None],
        "half": image[None] / 255,
    }.items():
        path = write_common(tmp_path / f"{name}.h5")
        with h5py.File(path, "a") as file:
            for key in ("images", "images_ts", "exposure_start_us", "exposure_end_us"):
                del file[key]
            file["images"], file["images_ts"] = stack, np.array([5000])
        (frame,) = [packet for packet in _read(path) if isinstance(packet, Frame)]
        np.testing.assert_array_equal(frame.pixels, image)


def test_damaged_chunk_is_told_after_the_pieces_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.recordings.hdf5.source._PIECE", 1000)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["width"], file.attrs["height"] = 64, 48
        for name, column in zip("txyp", (T_US, X, Y, P), strict=True):
            file.create_dataset(f"events/{name}", data=column, chunks=(1000,), compression="gzip", fletcher32=True)
        chunk = file["events/x"].id.get_chunk_info(2)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + 4 : chunk.byte_offset + 12] = bytes(8)
    path.write_bytes(data)
    packets: list[SourcePacket] = []
    with open_source(path) as source, pytest.raises(RecordingDamaged, match="from event 2000 on"):
        packets.extend(source)
    assert len(_columns(packets)["t_us"]) == 2000


@pytest.mark.parametrize("sort_us", [0, 100])
@pytest.mark.parametrize(("letter", "value"), [("t", np.nan), ("t", 1e300), ("p", 7)])
@pytest.mark.parametrize("at", [1, 1700, COUNT - 1])
def test_events_and_frames_before_a_bad_event_are_given(
    tmp_path: Path, letter: str, value: float, at: int, sort_us: int
) -> None:
    path = write_common(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        column = np.asarray(file[f"events/{letter}"]).astype(np.float64)
        column[at] = value
        del file[f"events/{letter}"]
        file[f"events/{letter}"] = column
    packets: list[SourcePacket] = []
    with (
        open_recording(path, sort_us=sort_us, time_unit="us") as source,
        pytest.raises(
            RecordingDamaged, match=rf"event {at}: its (time|polarity) is .*all before was delivered"
        ) as damage,
    ):
        packets.extend(source)
    assert damage.value.position == at
    found = _columns(packets)
    for name, column in (("t_us", T_US), ("x", X), ("y", Y), ("p", P)):
        np.testing.assert_array_equal(found[name], column[:at])
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert len(frames) == sum(end_us <= T_US[at - 1] for end_us in (6000, 16_000, 26_000))


def test_recording_whose_first_events_are_mostly_bad_is_refused(tmp_path: Path) -> None:
    for letter, message in (("t", "1800 of its first 3000 events have NaN"), ("p", "source.settings.polarity")):
        path = write_common(tmp_path / f"{letter}.h5")
        with h5py.File(path, "a") as file:
            column = np.asarray(file[f"events/{letter}"]).astype(np.float64)
            column[np.arange(COUNT) % 5 < 3] = np.nan
            del file[f"events/{letter}"]
            file[f"events/{letter}"] = np.nan_to_num(column, nan=9) if letter == "p" else column
        with pytest.raises(SourceError, match=message) as told, open_recording(path, time_unit="us"):
            pass
        assert not isinstance(told.value, RecordingDamaged)


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(SourceError, match="has weights: no layout that is known"), open_recording(other):
        pass
    uneven = tmp_path / "uneven.h5"
    with h5py.File(uneven, "w") as file:
        for name, column in zip("txyp", (T_US, X, Y, P[:-1]), strict=True):
            file[f"events/{name}"] = column
    with pytest.raises(RecordingDamaged, match="different lengths"), open_recording(uneven):
        pass
    cut = tmp_path / "cut.h5"
    cut.write_bytes(other.read_bytes()[:600])
    with pytest.raises(SourceError, match="as HDF5"), open_recording(cut):
        pass
    with pytest.raises(ConfigError, match="time_unit = 'min'"):
        open_source(other, time_unit="min")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SdkMissing, match=re.escape(pip_install("hdf5"))), open_source(other):
        pass


def _with_image(path: Path, image: np.ndarray, **attributes: str) -> Path:
    """Columns of the common layout, and two images as event_utils writes them."""
    with h5py.File(path, "w") as file:
        file.attrs["sensor_resolution"] = (48, 64)
        for name, column in {"ts": T_US * 1e-6, "xs": X, "ys": Y, "ps": P.astype(bool)}.items():
            file[f"events/{name}"] = column
        for n in range(2):
            file[f"images/image{n:09d}"] = image
            for key, value in {"timestamp": 0.005 + 0.01 * n, **attributes}.items():
                file[f"images/image{n:09d}"].attrs[key] = value
    return path


@pytest.mark.parametrize(
    ("words", "settings", "is_bgr"),
    [("color_bgr", {}, True), ("color_rgb", {}, False), ("", {}, False), ("", {"colours": "bgr"}, True)],
)
def test_order_of_colours_is_the_files_or_set(
    tmp_path: Path, words: str, settings: dict[str, str], is_bgr: bool
) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 0], image[..., 2] = 200, 10
    path = _with_image(tmp_path / "a.h5", image, **({"type": words} if words else {}))
    frame = next(packet for packet in _read(path, **settings) if isinstance(packet, Frame))
    np.testing.assert_array_equal(frame.pixels, image[..., ::-1] if is_bgr else image)


def test_values_of_pixels_are_told_by_the_largest(tmp_path: Path) -> None:
    image = (np.arange(48 * 64) % 1024).astype(np.uint16).reshape(48, 64)
    for pixels, expected in (
        (image, image >> 2),
        (image << 6, image >> 2),
        ((image >> 2).astype(np.float32), image >> 2),
        ((image >> 2) / np.float32(255), image >> 2),
    ):
        path = _with_image(tmp_path / "a.h5", pixels)
        frame = next(packet for packet in _read(path) if isinstance(packet, Frame))
        np.testing.assert_array_equal(frame.pixels[..., 0], expected)
    for kind in (np.int32, np.int64, np.uint32):
        for pixels in (image, image % 256):
            with pytest.raises(SourceError, match=f"images of {np.dtype(kind)}; uint8, uint16 and fractions"):
                _read(_with_image(tmp_path / "a.h5", pixels.astype(kind)))


def test_matrix_of_v2e_has_its_time_first(tmp_path: Path) -> None:
    path = tmp_path / "v2e.h5"
    with h5py.File(path, "w") as file:
        file["events"] = np.stack([T_US, X, Y, P], axis=1).astype(np.uint32)
        file["frame"], file["frame_ts"] = np.zeros((2, 48, 64), np.uint8), np.array([0, 10_000], np.uint32)
    packets = _read(path)
    assert _is_as_written(packets)
    assert sum(isinstance(packet, Frame) for packet in packets) == 2


@pytest.mark.parametrize("unit", ["us", "ns", "float us", "attribute ns", "s since 1970"])
def test_units_are_told_from_values_and_attributes(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "a.h5"
    begin_us = 1_700_000_000_000_000
    t = {
        "us": T_US,
        "ns": (begin_us + T_US) * 1000,
        "float us": T_US.astype(np.float64),
        "attribute ns": T_US * 1000,
        "s since 1970": (begin_us + T_US) * 1e-6,
    }[unit]
    with h5py.File(path, "w") as file:
        for name, column in zip("txyp", (t, X, Y, P), strict=True):
            file[f"events/{name}"] = column
        if unit == "attribute ns":
            file["events/t"].attrs["unit"] = "ns"
    packets = _read(path)
    assert _is_as_written(packets, offset_us=begin_us if unit in ("ns", "s since 1970") else 0)


def test_polarities_that_are_none_are_refused_and_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, column in zip("txyp", (T_US, X, Y, P * 255), strict=True):
            file[f"events/{name}"] = column
    with pytest.raises(SourceError, match=r"source.settings.polarity"):
        _read(path)
    assert _is_as_written(_read(path, polarity="positive"))


def test_what_is_written_comes_back_and_is_dsecs_layout(tmp_path: Path) -> None:
    begin_us = 1_700_000_000_000_000
    t_us = begin_us + np.arange(0, 200_000, 2)
    packets: list[SourcePacket] = [
        events(t_us[:70_000].tolist()),
        frame(0, begin_us + 10_000, begin_us + 20_000),
        frame(1, begin_us + 50_000, begin_us + 50_000, known=False),
        events(t_us[70_000:].tolist()),
    ]
    path = tmp_path / "a.h5"
    with create_writer(path, GEOMETRY, SourceInfo("camera", GEOMETRY)) as writer:
        for packet in [*packets, Gap(1, 2, "lost"), Trigger(5, 0, True)]:
            writer.write(packet)
    assert writer.lost == {"gaps": 1, "triggers": 1}
    assert column_digests(_read(path)) == column_digests(packets)
    with h5py.File(path) as file:
        assert int(np.asarray(file["t_offset"])) == begin_us
        t = np.asarray(file["events/t"])
        marks = np.asarray(file["ms_to_idx"])
    # As DSEC says: t[ms_to_idx[ms]] >= ms * 1000, and the event before is earlier.
    milliseconds = np.arange(len(marks))
    assert len(marks) == 200
    assert (t[marks] >= milliseconds * 1000).all()
    assert (t[marks[1:] - 1] < milliseconds[1:] * 1000).all()


def test_writing_nothing_is_a_file_that_says_so(tmp_path: Path) -> None:
    with create_writer(tmp_path / "a.h5", GEOMETRY, SourceInfo("camera", GEOMETRY)):
        pass
    with open_recording(tmp_path / "a.h5") as source:
        assert not [packet for packet in source if isinstance(packet, EventBatch) and len(packet)]


def test_images_larger_than_what_all_events_use_are_of_another_camera(tmp_path: Path) -> None:
    path = write_common(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["images"]
        file["images"] = np.zeros((3, 75, 100), np.uint8)
    with pytest.raises(SourceError, match=r"images are 100 x 75 pixels, its events use 64 x 48.*hybrid"):
        _read(path)
    assert _is_as_written(_read(path, width=100, height=75))
