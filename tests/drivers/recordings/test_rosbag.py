"""Recordings of ROS 1 and ROS 2, written by rosbags and mcap, and what we write as MCAP, read by others."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.recordings.rosbag.mcap_writer import create_writer
from drivers.source import SourceInfo
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, ImuBatch, SourcePacket, Trigger, WallClock
from tests.drivers.packets.made import GEOMETRY, column_digests, events, frame
from tests.drivers.recordings import ros_files
from tests.drivers.recordings.ros_files import IMAGE, KINDS, START_US, T_US, P, X, Y

rosbags = pytest.importorskip("rosbags")


def _read(path: Path, **settings: Any) -> list[SourcePacket]:
    with open_recording(path, **settings) as source:
        return list(source)


def _columns(packets: list[SourcePacket]) -> list[np.ndarray]:
    batches = [packet for packet in packets if isinstance(packet, EventBatch)]
    return [np.concatenate([getattr(b, name) for b in batches]) for name in ("t_us", "x", "y", "p")]


def _frames(packets: list[SourcePacket]) -> list[Frame]:
    return [packet for packet in packets if isinstance(packet, Frame)]


@pytest.mark.parametrize("kind", KINDS)
def test_events_and_images_of_every_kind_of_bag(tmp_path: Path, kind: str) -> None:
    path = KINDS[kind](tmp_path)
    packets = _read(path)
    for found, expected in zip(_columns(packets), (T_US, X, Y, P), strict=True):
        np.testing.assert_array_equal(found, expected)
    frames = _frames(packets)
    assert [(f.exposure_start_us, f.exposure_known, f.index) for f in frames] == [
        (START_US + 2000, False, 0),
        (START_US + 12_000, False, 1),
    ]
    np.testing.assert_array_equal(frames[1].pixels, IMAGE[..., None] + 1)
    with open_recording(path) as source:
        assert source.info.geometry == Geometry(64, 48)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("rgb8", (200, 100, 10)),
        ("bgr8", (10, 100, 200)),
        ("rgba8", (200, 100, 10)),
        ("bgra8", (10, 100, 200)),
        ("mono16", (7,)),
        ("bayer_rggb8", (200, 100, 10)),
    ],
)
def test_encodings_of_images_become_gray_or_rgb(tmp_path: Path, encoding: str, expected: tuple[int, ...]) -> None:
    if encoding == "mono16":
        data = np.full((48, 64), 7 * 256 + 99, "<u2")
        data[0, 0] = 65_535  # the largest value tells that all 16 bits are used
        data = data.view(np.uint8)
    elif encoding.startswith("bayer"):
        data = np.full((48, 64), 100, np.uint8)
        data[::2, ::2], data[1::2, 1::2] = 200, 10
    else:
        data = np.zeros((48, 64, 4 if "a" in encoding else 3), np.uint8)
        data[..., :3] = (200, 100, 10)
    (image,) = _frames(_read(ros_files.ros2_images(tmp_path, [(encoding, data.reshape(48, -1))])))
    assert image.pixels.shape == (48, 64, len(expected))
    assert tuple(image.pixels[20, 20]) == expected


def test_compressed_images_are_decoded(tmp_path: Path) -> None:
    colour = np.zeros((48, 64, 3), np.uint8)
    colour[..., 0] = 200  # red
    data = cv2.imencode(".png", colour[..., ::-1])[1]
    (image,) = _frames(_read(ros_files.ros2_images(tmp_path, [("png", data)], compressed=True)))
    np.testing.assert_array_equal(image.pixels, colour)


def test_topics_are_chosen_by_name_and_absent_ones_listed(tmp_path: Path) -> None:
    path = ros_files.two_cameras(tmp_path)
    assert len(_columns(_read(path))[0]) == len(T_US)
    assert len(_columns(_read(path, events_topic="/right/events"))[0]) == 10
    with pytest.raises(SourceError, match=r"has /left/events \(dvs_msgs/EventArray\), /right/events"):
        _read(path, events_topic="/middle/events", frames_topic="/none")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["ros 1", "ros 1 lz4", "mcap"])
def test_cut_bag_gives_what_is_before_the_cut(tmp_path: Path, kind: str, share: float) -> None:
    path = KINDS[kind](tmp_path)
    if path.is_dir():
        (path,) = path.glob("*.mcap")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    packets: list[SourcePacket] = []
    if share > 0.9:  # only the index is missing
        with open_recording(path) as source, contextlib.suppress(RecordingDamaged):
            packets.extend(source)
        assert len(_columns(packets)[0]) == len(T_US)
        return
    with pytest.raises((RecordingDamaged, SourceError), match=r"damaged|no messages"), open_recording(path) as source:
        packets.extend(source)
    found = _columns(packets)[0] if any(isinstance(p, EventBatch) for p in packets) else np.empty(0)
    np.testing.assert_array_equal(found, T_US[: len(found)])


@pytest.mark.real
def test_evt3_packets_in_a_bag_are_the_file_that_they_came_from(shared_data: Path, tmp_path: Path) -> None:
    raw = shared_data / "recordings" / "ecp_test_events_1_640x480_evt3_trig.raw"
    expected = [packet for packet in _read(raw) if isinstance(packet, EventBatch | Trigger)]
    words = raw.read_bytes()
    words = (
        words[words.index(b"% end\n") + 6 :] if b"% end\n" in words[:4096] else words[ros_files.header_bytes(words) :]
    )
    found = _read(ros_files.evt3_bag(tmp_path, words, pieces=50))
    shift = _columns(found)[0][0] - _columns(expected)[0][0]
    assert shift + _columns(expected)[0][0] == START_US  # the stamp of the first packet
    np.testing.assert_array_equal(_columns(found)[0] - shift, _columns(expected)[0])
    for ours, theirs in zip(_columns(found)[1:], _columns(expected)[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert sum(isinstance(packet, Trigger) for packet in found) == 4157


# Streams of one camera


def _two(first: str, second: str) -> list[tuple[str, str, int, Any]]:
    return [
        (f"{second}/image_raw", "image", START_US, (64, 48)),
        (f"{first}/events", "events", START_US, (64, 48)),
        (f"{second}/events", "events", START_US, (64, 48)),
        (f"{first}/image_raw", "image", START_US + 1000, (64, 48)),
    ]


def test_events_and_images_are_of_one_camera(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = ros_files.bag_of_cameras(tmp_path, _two("/davis/left", "/davis/right"))
    packets = _read(path)
    assert set(_columns(packets)[1].tolist()) == {len("/davis/left/events")}
    assert [frame.exposure_start_us for frame in _frames(packets)] == [START_US + 1000]
    assert "events are read from /davis/left/events, not from /davis/right/events" in caplog.text
    with open_recording(path) as source:
        assert {stream.name for stream in source.info.streams if stream.taken} == {
            "/davis/left/events",
            "/davis/left/image_raw",
        }
    packets = _read(path, events_topic="/davis/right/events")
    assert [frame.exposure_start_us for frame in _frames(packets)] == [START_US]
    assert not _frames(_read(path, frames_topic="none"))


@pytest.mark.parametrize("images_first", [True, False])
def test_images_of_another_size_are_refused_whatever_comes_first(tmp_path: Path, images_first: bool) -> None:
    messages = [("/dvs/events", "events", START_US, (40, 30)), ("/flir/image", "image", START_US, (100, 75))]
    path = ros_files.bag_of_cameras(tmp_path, messages[::-1] if images_first else messages)
    with pytest.raises(SourceError, match=r"100 x 75 pixels, .* 40 x 30.*driver hybrid"), open_recording(path):
        pass


def test_topics_that_share_no_namespace_are_asked_about(tmp_path: Path) -> None:
    messages = [("/dvs/events", "events", START_US, (64, 48)), ("/flir/image", "image", START_US, (64, 48))]
    path = ros_files.bag_of_cameras(tmp_path, messages)
    with pytest.raises(SourceError, match=r"events_topic and frames_topic"), open_recording(path):
        pass
    assert len(_frames(_read(path, events_topic="none"))) == 1


@pytest.mark.parametrize("lengths_first", [True, False])
def test_lengths_of_exposures_are_those_of_their_images(tmp_path: Path, lengths_first: bool) -> None:
    messages: list[tuple[str, str, int, Any]] = [("/dvs/events", "events", START_US, (64, 48))]
    for n, length_us in enumerate((5000, 7001, None, 9000)):
        pair: list[tuple[str, str, int, Any]] = [
            ("/dvs/image_raw", "image", START_US + 20_000 * n, (64, 48)),
            *([("/dvs/exposure", "length", START_US + 20_000 * n + 100, length_us)] if length_us else []),
        ]
        messages += pair[::-1] if lengths_first else pair
    messages.append(("/other/exposure", "length", START_US + 90_000, 3))
    frames = _frames(_read(ros_files.bag_of_cameras(tmp_path, messages)))
    assert [(f.exposure_start_us - START_US, f.exposure_end_us - START_US, f.exposure_known) for f in frames] == [
        (-2500, 2500, True),
        (20_000 - 3500, 20_000 + 3501, True),
        (40_000, 40_000, False),
        (60_000 - 4500, 60_000 + 4500, True),
    ]


# iniVation's driver of ROS 2


def _word(t_us: int, x: int, y: int, p: int) -> bytes:
    return struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, t_us)


def test_words_of_libcaer_count_from_1970_over_the_turn_of_their_clock(tmp_path: Path) -> None:
    turn_us = 1 << 31
    base_ns = (START_US - turn_us + 100) * 1000
    inside = _word(turn_us - 50, 3, 5, 1) + _word(turn_us - 10, 4, 6, 0) + _word(7, 600, 470, 1)
    after = _word(20, 1, 2, 0)
    path = ros_files.packets_bag(tmp_path, "libcaer", [(base_ns, inside), (base_ns + turn_us * 1000, after)])
    t_us, x, y, p = (column.tolist() for column in _columns(_read(path)))
    assert t_us == [START_US + 50, START_US + 90, START_US + 107, START_US + 120]
    assert (x, y, p) == ([3, 4, 600, 1], [5, 6, 470, 2], [1, 0, 1, 0])


def test_packed_words_of_libcaer_are_events_and_vectors(tmp_path: Path) -> None:
    high, low, column, row, base, vector = range(6)

    def words(*items: tuple[int, int]) -> bytes:
        return b"".join(struct.pack("<H", kind << 12 | value) for kind, value in items)

    first = words((high, 1), (low, 4), (column, 30), (row, 0x800 | 7), (base, 100), (vector, 0b10000001), (vector, 2))
    second = words((row, 9), (low, 1), (vector, 1))  # column and rows go on, time does not
    path = ros_files.packets_bag(
        tmp_path, "libcaer_cmp", [(START_US * 1000, first), ((START_US + 9000) * 1000, second)]
    )
    t_us, x, y, p = (column.tolist() for column in _columns(_read(path)))
    assert t_us == [START_US + 4100] * 4 + [START_US + 9000, START_US + 9001]
    assert x == [30] * 6
    assert y == [7, 100, 107, 109, 9, 116]
    assert p == [1, 0, 0, 0, 0, 0]
    unknown = ros_files.packets_bag(tmp_path / "u", "libcaer_cmp", [(0, words((column, 3), (7, 1)))])
    with pytest.raises(RecordingDamaged, match=r"word 1 .* has the type 7"):
        _read(unknown)


@pytest.mark.real
def test_davis346_of_ros_2_is_read_whole(shared_data: Path) -> None:
    packets = _read(shared_data / "recordings" / "ecp_test_events_2_davis346_libcaer.mcap")
    t_us, x, y, p = _columns(packets)
    assert len(t_us) == 571_266
    assert (np.diff(t_us) >= 0).all()
    assert (int(x.max()), int(y.max()), set(p.tolist())) == (345, 259, {0, 1})
    assert t_us[0] > 1_700_000_000_000_000


def test_what_is_not_supported_is_no_damage(tmp_path: Path) -> None:
    path = ros_files.packets_bag(tmp_path / "a", "trigger", [(0, b"12345678")])
    with pytest.raises(SourceError, match=r"'trigger' are not read, expected evt3, mono, libcaer") as told:
        _read(path)
    assert not isinstance(told.value, RecordingDamaged)
    path = ros_files.ros2_images(tmp_path / "b", [("yuv422", np.zeros((48, 128), np.uint8))])
    with pytest.raises(SourceError, match=r"encoding 'yuv422' are not read") as told:
        _read(path)
    assert not isinstance(told.value, RecordingDamaged)


@pytest.mark.parametrize(
    ("topic", "what", "why"),
    [
        ("/a/image", "depth", "images of encoding '32FC1' are not read"),
        ("/a/events", "packet", "events of encoding 'none' are not read"),
    ],
)
def test_topic_that_cannot_be_read_is_named_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, topic: str, what: str, why: str
) -> None:
    dvs = [("/dvs/events", "events", START_US, (64, 48)), ("/dvs/image_raw", "image", START_US, (64, 48))]
    path = ros_files.bag_of_cameras(tmp_path, [(topic, what, START_US - 1, (64, 48)), *dvs])
    packets = _read(path)
    assert (len(_columns(packets)[0]), len(_frames(packets))) == (50, 1)
    assert f"{topic}: {why}" in caplog.text
    with open_recording(path) as source:
        assert {stream.name: stream.taken for stream in source.info.streams}[topic] is False
    caplog.clear()
    setting = "frames_topic" if what == "depth" else "events_topic"
    assert len(_frames(_read(path, **{setting: "/dvs/image_raw" if what == "depth" else "/dvs/events"}))) == 1
    assert why not in caplog.text
    with pytest.raises(SourceError, match=why), open_recording(path, **{setting: topic}):
        pass


def test_only_topic_of_images_that_cannot_be_read_is_refused_until_it_is_left_out(tmp_path: Path) -> None:
    messages = [("/dvs/events", "events", START_US, (64, 48)), ("/dvs/depth", "depth", START_US, (64, 48))]
    path = ros_files.bag_of_cameras(tmp_path, messages)
    with pytest.raises(SourceError, match="/dvs/depth: images of encoding '32FC1'"), open_recording(path):
        pass
    assert len(_columns(_read(path, frames_topic="none"))[0]) == 50


# Writing MCAP

END_US = 2**31 * 1_000_000


def _packets() -> list[SourcePacket]:
    samples = np.arange(6, dtype=np.float32).reshape(1, 6)
    return [
        events(range(START_US, START_US + 777, 7)),
        ImuBatch(np.array([START_US + 300], np.int64), samples[:, :3].copy(), samples[:, 3:].copy()),
        events(range(START_US + 1000, START_US + 30_000, 11), watermark_us=START_US + 31_000),
        frame(0, START_US + 500, START_US + 20_500),
        events([START_US + 9_000_000, START_US + 19_000_000]),  # more than 32 bits of nanoseconds apart
        frame(1, START_US + 31_000, START_US + 31_000, known=False),
    ]


def _write(path: Path, packets: Iterable[SourcePacket], geometry: Geometry = GEOMETRY) -> dict[str, int]:
    with create_writer(path, geometry, SourceInfo("camera", geometry)) as writer:
        for packet in packets:
            writer.write(packet)
    return writer.lost


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    assert _write(tmp_path / "a.mcap", _packets()) == {}
    assert column_digests(_read(tmp_path / "a.mcap")) == column_digests(_packets())


def test_colour_comes_back_and_what_has_no_place_is_counted(tmp_path: Path) -> None:
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[..., 0] = 200
    rolling = Frame(3, pixels, START_US, START_US + 40, row_delay_us=5.0, transfer="srgb")
    others: list[SourcePacket] = [events([START_US, START_US + 90]), Gap(5, 9, "lost"), Trigger(9, 6, True)]
    lost = _write(tmp_path / "a.mcap", [*others, rolling])
    assert lost == {
        "gaps": 1,
        "triggers": 1,
        "holes in the count of frames": 1,
        "row delays": 1,
        "transfers of pixels that are not linear": 1,
    }
    np.testing.assert_array_equal(_frames(_read(tmp_path / "a.mcap"))[0].pixels, pixels)


def test_ros_reads_what_is_written(tmp_path: Path) -> None:
    from mcap.reader import make_reader

    _write(tmp_path / "a.mcap", _packets())
    store = ros_files.store_2()
    found: dict[str, list[Any]] = {}
    with open(tmp_path / "a.mcap", "rb") as file:
        for schema, channel, message in make_reader(file).iter_messages():
            assert schema is not None
            assert ros_files.definition_is_known(schema.name, schema.data.decode())
            found.setdefault(channel.topic, []).append(store.deserialize_cdr(message.data, schema.name))
    image = found["/image_raw"][0]
    assert (image.encoding, image.width, image.height, image.step, image.data.size) == ("mono8", 32, 24, 32, 768)
    stamp = image.header.stamp
    assert stamp.sec * 1_000_000 + stamp.nanosec // 1000 == START_US + 500
    packet = found["/events"][0]
    assert (packet.encoding, packet.width, packet.height, packet.time_base) == ("mono", 32, 24, START_US * 1000)
    assert found["/imu"][0].angular_velocity.x == 3.0
    assert found["/imu"][0].linear_acceleration.z == 2.0
    (exposure,) = found["/exposure_end"]
    assert exposure.source == "exposure"
    assert exposure.time_ref.nanosec // 1000 == (START_US + 20_500) % 1_000_000


@pytest.mark.parametrize(
    ("packet", "where"),
    [
        (events([-5]), "-5 us is before the beginning"),
        (events([END_US]), f"{END_US} us is beyond the end"),
        (events([2**58]), f"{2**58} us is beyond the end"),
        (events([2**60]), f"{2**60} us is beyond the end"),
        (frame(0, END_US - 10, END_US + 10), f"{END_US + 10} us is beyond the end"),
        (WallClock(END_US, START_US * 1000), f"{END_US} us is beyond the end"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_time_that_the_clock_of_ros_does_not_have_is_refused(tmp_path: Path, packet: SourcePacket, where: str) -> None:
    with pytest.raises(SourceError, match=where):
        _write(tmp_path / "a.mcap", [packet])
    assert not (tmp_path / "a.mcap").exists()


def test_device_clock_may_be_before_1970(tmp_path: Path) -> None:
    _write(tmp_path / "a.mcap", [WallClock(-5_000_001, START_US * 1000), events([-5_000_001, -4_000_001])])
    (batch,) = [packet for packet in _read(tmp_path / "a.mcap") if isinstance(packet, EventBatch)]
    assert batch.t_us.tolist() == [START_US, START_US + 1_000_000]
