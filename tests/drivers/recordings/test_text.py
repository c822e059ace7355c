"""Lines of numbers become events, whatever their order and unit; folders and archives hold images beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.recordings.text.source import open_source, recognise
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Geometry, SourcePacket
from tests.drivers.recordings.text_files import T_US, P, X, Y, line, write_folder, zipped


def _read(path: Path, **settings: Any) -> list[SourcePacket]:
    with open_recording(path, **settings) as source:
        return list(source)


def _columns(packets: list[SourcePacket]) -> list[list[int]]:
    batches = [packet for packet in packets if isinstance(packet, EventBatch)]
    return [np.concatenate([getattr(b, name) for b in batches]).tolist() for name in ("t_us", "x", "y", "p")]


EXPECTED = [column.tolist() for column in (T_US, X, Y, P)]


@pytest.mark.parametrize("kind", ["folder", "zip", "zip with a folder in it"])
def test_zurich_layout_in_folder_and_archive(tmp_path: Path, kind: str) -> None:
    path = write_folder(tmp_path / "shapes")
    if kind != "folder":
        path = zipped(path, inside="" if kind == "zip" else "shapes/")
    packets = _read(path)
    assert _columns(packets) == EXPECTED
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert [(f.exposure_start_us, f.exposure_known, int(f.pixels.min())) for f in frames] == [
        (T_US[0], False, 50),
        (T_US[0] + 10_000, False, 51),
    ]
    with open_recording(path) as source:
        assert source.info.geometry == Geometry(64, 48)
        assert source.info.has_frames


def test_exposures_are_taken_where_images_have_two_times(tmp_path: Path) -> None:
    packets = _read(write_folder(tmp_path / "a", exposures=True))
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert [(f.exposure_start_us - T_US[0], f.exposure_end_us - T_US[0], f.exposure_known) for f in frames] == [
        (0, 4000, True),
        (10_000, 14_000, True),
    ]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("1000 3 5 1\n1010 4 6 0\n", {}),
        ("# t x y p\n\n1000 3 5 1\n\n1010 4 6 0", {}),
        ("64 48\n0.001 3 5 1\n0.00101 4 6 0\n", {}),
        ("x,y,polarity,timestamp\n3,5,1,1000\n4,6,-1,1010\n", {}),
        ("3;5;1000;1\r\n4;6;1010;0\r\n", {"columns": "xytp"}),
        ("1 3 5 1\n1.01 4 6 0\n", {"time_unit": "ms"}),
        ("1e-3\t3\t5\t1\n1.01e-3\t4\t6\t0\n", {}),
    ],
    ids=["whole", "comments", "size", "names", "columns", "unit", "exponents"],
)
def test_order_unit_and_separators_are_understood(tmp_path: Path, text: str, settings: dict[str, str]) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert _columns(_read(path, **settings)) == [[1000, 1010], [3, 4], [5, 6], [1, 0]]
    with open_recording(path, **settings) as source:
        assert source.info.geometry == (Geometry(64, 48) if text.startswith("64 48") else Geometry(5, 7))


def test_pieces_of_a_long_file_fit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.recordings.text.lines._PIECE_BYTES", 1000)
    path = write_folder(tmp_path / "a") / "events.txt"
    packets = _read(path)
    assert _columns(packets) == EXPECTED
    assert len(packets) > 40


@pytest.mark.parametrize("bad", ["12.5 3 4\n", "hello\n", "1 2 3 4 5\n", "1.0 2 3 x\n"])
def test_bad_line_is_told_after_the_lines_before_it(tmp_path: Path, bad: str) -> None:
    lines = [line(n) for n in range(100)]
    path = tmp_path / "events.txt"
    path.write_text("".join([*lines[:50], bad, *lines[50:]]))
    packets: list[SourcePacket] = []
    with open_recording(path, width=64, height=48) as source, pytest.raises(RecordingDamaged) as damage:
        packets.extend(source)
    assert len(_columns(packets)[0]) == 50
    assert damage.value.position == len("".join(lines[:50]))
    assert repr(bad.strip().encode()) in str(damage.value)


@pytest.mark.parametrize("bad", ["1e999 2 3 1\n", "-1e300 2 3 1\n", "0.6 2 3 7\n"])
def test_line_whose_numbers_are_no_event_is_told_as_any_other_bad_one(tmp_path: Path, bad: str) -> None:
    lines = [line(n) for n in range(200)]
    path = tmp_path / "events.txt"
    path.write_text("".join(["\n", *lines[:150], "\n\r\n", bad, *lines[150:]]))
    packets: list[SourcePacket] = []
    with open_recording(path, width=64, height=48) as source, pytest.raises(RecordingDamaged) as damage:
        packets.extend(source)
    assert len(_columns(packets)[0]) == 150
    assert damage.value.position == len("\n" + "".join(lines[:150]) + "\n\r\n")
    assert f"{bad.strip().encode()!r}; its " in str(damage.value)


def test_missing_image_is_told_after_the_frames_before_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    (folder / "images/frame_00000001.png").unlink()
    packets: list[SourcePacket] = []
    with open_recording(folder) as source, pytest.raises(RecordingDamaged, match=r"frame_00000001.png cannot be read"):
        packets.extend(source)
    assert len([packet for packet in packets if isinstance(packet, Frame)]) == 1
    (folder / "images.txt").write_text("0.5\n")
    with pytest.raises(RecordingDamaged, match=r"line 1 of images.txt"), open_recording(folder):
        pass


def test_what_is_no_text_recording_is_not_taken_for_one(tmp_path: Path) -> None:
    for text in (b"one two three four\n", b"1 2 3\n", b"{}", b"\x00\x01\x02", b"", b"name\n1 2 3 4\n"):
        assert not recognise(text, tmp_path / "a.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="is a folder without a recording"):
        open_recording(tmp_path / "empty")
    for settings, message in (
        ({"columns": "xyz"}, "columns = 'xyz'"),
        ({"time_unit": "min"}, "time_unit = 'min'"),
        ({"transfer": "log"}, "transfer = 'log'"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_source(tmp_path, **settings)  # type: ignore[arg-type]


SLOW = 40  # events 40 us apart: 25,000 a second


def _rows(order: str, count: int = 3000, *, unit: str = "us", start_us: int = 0) -> list[list[str]]:
    t_us = start_us + SLOW * np.arange(count)
    times = {
        "us": [f"{t}" for t in t_us],
        "savetxt": [f"{t:.18e}" for t in t_us],
        "g": [f"{t * 1e-6:g}" for t in t_us],
        "ns": [f"{t * 1000}" for t in t_us],
    }[unit]
    values = {"t": times, "x": [str(n % 64) for n in range(count)], "y": [str(n % 48) for n in range(count)]}
    values["p"] = [str(n % 2) for n in range(count)]
    return [list(row) for row in zip(*(values[name] for name in order), strict=True)]


def _text(path: Path, rows: list[list[str]], *, head: str = "", between: str = " ") -> Path:
    path.write_text(head + "".join(between.join(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("head", ["%geometry:64,48\n", "", "# x y p t\n"])
def test_columns_of_metavision_are_told(tmp_path: Path, head: str) -> None:
    path = _text(tmp_path / "a.csv", _rows("xypt"), head=head, between=",")
    t_us, x, _, _ = _columns(_read(path))
    assert (t_us[:3], x[:3]) == ([0, 40, 80], [0, 1, 2])
    with open_recording(path) as source:
        assert source.info.geometry == Geometry(64, 48)


@pytest.mark.parametrize(("unit", "start_us"), [("us", 0), ("savetxt", 0), ("g", 0), ("ns", 1_700_000_000_000_000)])
def test_units_of_times_are_told_by_what_a_camera_can_do(tmp_path: Path, unit: str, start_us: int) -> None:
    path = _text(tmp_path / "a.txt", _rows("txyp", unit=unit, start_us=start_us))
    t_us = _columns(_read(path))[0]
    assert t_us[:3] == [start_us, start_us + SLOW, start_us + 2 * SLOW]
    assert t_us[-1] == start_us + 2999 * SLOW


def test_counts_of_images_are_no_exposures(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    lines = (folder / "images.txt").read_text().splitlines()
    for head in ("# id timestamp image_name\n", ""):
        (folder / "images.txt").write_text(head + "".join(f"{n} {text}\n" for n, text in enumerate(lines)))
        frames = [packet for packet in _read(folder) if isinstance(packet, Frame)]
        assert [(f.exposure_start_us, f.exposure_known) for f in frames] == [
            (T_US[0], False),
            (T_US[0] + 10_000, False),
        ]


def test_events_sorted_by_pixel_are_sorted_by_time(tmp_path: Path) -> None:
    rows = _rows("txyp")
    mixed = [rows[start + k] for start in range(0, 3000, 250) for n in range(5) for k in range(n, 250, 5)]
    path = _text(tmp_path / "a.txt", mixed)
    t_us, x, y, _ = _columns(_read(path))
    assert t_us == [SLOW * n for n in range(3000)]
    assert (x[:70], y[:70]) == ([n % 64 for n in range(70)], [n % 48 for n in range(70)])
    with open_recording(path) as source:
        assert any(found.what == "order of events" for found in source.info.found)


def test_images_of_16_bits_use_as_many_as_their_largest_value(tmp_path: Path) -> None:
    import cv2

    folder = write_folder(tmp_path / "a")
    image = (np.arange(48 * 64) % 1024).astype(np.uint16).reshape(48, 64)
    for n in range(2):
        assert cv2.imwrite(str(folder / f"images/frame_{n:08d}.png"), image)
    frame = next(packet for packet in _read(folder) if isinstance(packet, Frame))
    np.testing.assert_array_equal(frame.pixels[..., 0], image >> 2)


def test_images_larger_than_what_all_events_use_are_of_another_camera(tmp_path: Path) -> None:
    import cv2

    folder = write_folder(tmp_path / "a")
    for n in range(2):
        assert cv2.imwrite(str(folder / f"images/frame_{n:08d}.png"), np.full((75, 100), n, np.uint8))
    with pytest.raises(SourceError, match=r"images are 100 x 75 pixels, its events use 64 x 48.*hybrid"):
        _read(folder)
    assert _columns(_read(folder, width=100, height=75)) == EXPECTED


def test_times_with_too_few_digits_are_refused(tmp_path: Path) -> None:
    path = _text(tmp_path / "a.txt", [["1.54082e+09", *row[1:]] for row in _rows("txyp")])
    with pytest.raises(SourceError, match="too few digits"):
        _read(path)


@pytest.mark.parametrize("head", ["", "# t x y p\n", "t,x,y,p\n", "64 48\n"], ids=repr)
def test_mark_of_the_encoding_before_the_text_is_passed_over(tmp_path: Path, head: str) -> None:
    plain = _text(tmp_path / "plain.txt", _rows("txyp"), head=head)
    marked = tmp_path / "marked.txt"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    assert _columns(_read(marked)) == _columns(_read(plain))


@pytest.mark.parametrize("between", [",", ";", "\t"], ids=repr)
@pytest.mark.parametrize("first", ["", "index", "Unnamed: 0", '""'], ids=repr)
def test_count_of_lines_before_the_event_is_left_out(tmp_path: Path, first: str, between: str) -> None:
    plain = _text(tmp_path / "plain.csv", _rows("xypt"), head="x,y,p,t\n", between=",")
    rows = [[str(n), *row] for n, row in enumerate(_rows("xypt"))]
    counted = _text(tmp_path / "a.csv", rows, head=between.join([first, *"xypt"]) + "\n", between=between)
    assert _columns(_read(counted)) == _columns(_read(plain))
    with open_recording(counted) as source:
        assert any("after a count of lines" in found.why for found in source.info.found)


@pytest.mark.parametrize("bad", ["3 4 5 0\n", "a 12 3 4 1\n", " 7\n", "-5 12 3 4 1\n"])
def test_line_without_the_count_of_lines_is_no_event(tmp_path: Path, bad: str) -> None:
    head, lines = ",t,x,y,p\n", [f"{n} {1000 + n} 3 4 1\n" for n in range(200)]
    path = tmp_path / "a.csv"
    path.write_text("".join([head, *lines, bad, *lines]))
    packets: list[SourcePacket] = []
    with open_recording(path) as source, pytest.raises(RecordingDamaged) as damage:
        packets.extend(source)
    assert _columns(packets)[0] == [1000 + n for n in range(200)]
    assert damage.value.position == len("".join([head, *lines]))


def test_fifth_number_without_a_name_is_not_passed_over(tmp_path: Path) -> None:
    rows = [[*row, "1"] for row in _rows("txyp")]
    for head in ("", "t,x,y,p\n", "t,x,y,p,\n", "id,t,x,y,p\n"):
        with pytest.raises(SourceError):
            _read(_text(tmp_path / "a.csv", rows, head=head, between=","))


def test_clock_that_begins_again_is_no_other_order_of_columns(tmp_path: Path) -> None:
    rows = [*_rows("txyp", 2000, start_us=5_000_000), *_rows("txyp", 2000)]
    t_us = _columns(_read(_text(tmp_path / "a.txt", rows)))[0]
    assert (t_us[0], t_us[2000]) == (5_000_000, 0)
    by_polarity = sorted(_rows("txyp"), key=lambda row: row[3])
    with pytest.raises(SourceError):
        _read(_text(tmp_path / "b.txt", by_polarity))


def test_line_of_names_may_tell_the_unit(tmp_path: Path) -> None:
    path = _text(tmp_path / "a.csv", _rows("xypt"), head="x,y,polarity,timestamp[ns]\n", between=",")
    assert _columns(_read(path))[0][-1] == round(2999 * SLOW / 1000)
