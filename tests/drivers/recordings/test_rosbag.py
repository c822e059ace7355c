"""Recordings of ROS 1 and ROS 2, written by rosbags and mcap, and what we write as MCAP, read by others."""

from __future__ import annotations

import contextlib
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
from nire.types import EventBatch, Frame, Gap, Geometry, ImuBatch, SourcePacket, Trigger
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


# Writing MCAP


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


def test_time_before_the_clock_of_ros_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is before the beginning"):
        _write(tmp_path / "a.mcap", [events([-5])])
    assert not (tmp_path / "a.mcap").exists()
