"""Writes small ROS 1 and ROS 2 recordings for tests, by rosbags: two images and events between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

START_US = 1_700_000_000_000_000
COUNT = 300
T_US = START_US + 50 * np.arange(COUNT)
X, Y, P = np.arange(COUNT) % 64, np.arange(COUNT) % 48, np.arange(COUNT) % 2
IMAGE = (np.arange(48 * 64) % 200).reshape(48, 64).astype(np.uint8)

_EVENT = "uint16 x\nuint16 y\ntime ts\nbool polarity\n"
_EVENT_2 = "uint16 x\nuint16 y\nbuiltin_interfaces/Time ts\nbool polarity\n"
_PACKET = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nuint64 seq\nuint64 time_base\n"
    "string encoding\nbool is_bigendian\nuint8[] events\n"
)


def _array(package: str) -> str:
    return f"std_msgs/Header header\nuint32 height\nuint32 width\n{package}/Event[] events\n"


def _store(name: str, event: str) -> Any:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores[name])
    for package in ("dvs_msgs", "prophesee_event_msgs"):
        store.register(get_types_from_msg(event, f"{package}/msg/Event"))
        store.register(get_types_from_msg(_array(package), f"{package}/msg/EventArray"))
    store.register(get_types_from_msg(_PACKET, "event_camera_msgs/msg/EventPacket"))
    return store


def store_1() -> Any:
    """Types of ROS 1 with the events'."""
    return _store("ROS1_NOETIC", _EVENT)


def store_2() -> Any:
    """Types of ROS 2 with the events'."""
    return _store("ROS2_HUMBLE", _EVENT_2)


def definition_is_known(name: str, text: str) -> bool:
    """Parse a message definition as ROS 2 writes it, and compare it with that of ROS."""
    from rosbags.typesys import get_types_from_msg

    types, store = get_types_from_msg(text, name), store_2()
    return all(kind in store.fielddefs and store.fielddefs[kind] == fields for kind, fields in types.items())


def _header(store: Any, t_us: int) -> Any:
    time = store.types["builtin_interfaces/msg/Time"](t_us // 1_000_000, t_us % 1_000_000 * 1000)
    kind = store.types["std_msgs/msg/Header"]
    return kind(stamp=time, frame_id="cam", **({"seq": 3} if "seq" in kind.__dataclass_fields__ else {}))


def _events(store: Any, package: str, part: slice) -> Any:
    time, event = store.types["builtin_interfaces/msg/Time"], store.types[f"{package}/msg/Event"]
    rows = zip(T_US[part].tolist(), X[part].tolist(), Y[part].tolist(), P[part].tolist(), strict=True)
    found = [event(x, y, time(t // 1_000_000, t % 1_000_000 * 1000), bool(p)) for t, x, y, p in rows]
    kind = store.types[f"{package}/msg/EventArray"]
    return kind(_header(store, int(T_US[part][0])), 48, 64, found)


def _packet(store: Any, t_us: int, encoding: str, data: np.ndarray, base_ns: int = 0) -> Any:
    kind = store.types["event_camera_msgs/msg/EventPacket"]
    return kind(_header(store, t_us), 48, 64, 5, base_ns, encoding, False, data)


def _mono(store: Any, part: slice) -> Any:
    """Sensor time begins at 123 us."""
    base_us = 123 + int(T_US[part][0]) - START_US
    words = ((T_US[part] - T_US[part][0]) * 1000).astype(np.uint64)
    words |= X[part].astype(np.uint64) << np.uint64(32) | Y[part].astype(np.uint64) << np.uint64(48)
    words |= P[part].astype(np.uint64) << np.uint64(63)
    return _packet(store, int(T_US[part][0]), "mono", words.view(np.uint8), base_us * 1000)


def _image(store: Any, t_us: int, encoding: str, data: np.ndarray) -> Any:
    flat = np.ascontiguousarray(data).view(np.uint8).reshape(48, -1)
    return store.types["sensor_msgs/msg/Image"](_header(store, t_us), 48, 64, encoding, 0, flat.shape[1], flat.ravel())


def _compressed(store: Any, t_us: int, data: np.ndarray) -> Any:
    return store.types["sensor_msgs/msg/CompressedImage"](_header(store, t_us), "png", data.ravel())


def _recording(store: Any, package: str) -> Iterator[tuple[str, str, int, Any]]:
    """(topic, type, time, message): an image before the events of its time, as it happens in bags."""
    for n in range(2):
        t_us = START_US + 2000 + 10_000 * n
        if package == "dvs_msgs":
            yield "/image", "sensor_msgs/msg/Image", t_us, _image(store, t_us, "mono8", IMAGE + np.uint8(n))
        else:
            data = cv2.imencode(".png", IMAGE + np.uint8(n))[1]
            yield "/image", "sensor_msgs/msg/CompressedImage", t_us, _compressed(store, t_us, data)
        for start in range(150 * n, 150 * (n + 1), 50):
            part = slice(start, start + 50)
            if package == "event_camera_msgs":
                kind, message = f"{package}/msg/EventPacket", _mono(store, part)
            else:
                kind, message = f"{package}/msg/EventArray", _events(store, package, part)
            yield "/events", kind, int(T_US[part][-1]), message


def _write(writer: Any, store: Any, messages: Iterator[tuple[str, str, int, Any]], *, ros1: bool) -> None:
    connections: dict[str, Any] = {}
    serialize = store.serialize_ros1 if ros1 else store.serialize_cdr
    with writer:
        for topic, kind, t_us, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], t_us * 1000, serialize(message, kind))


def _bag_1(folder: Path, package: str, compression: str = "") -> Path:
    from rosbags.rosbag1 import Writer

    path = folder / "small.bag"
    writer = Writer(path)
    if compression:
        writer.set_compression(Writer.CompressionFormat[compression])
    store = store_1()
    _write(writer, store, _recording(store, package), ros1=True)
    return path


def _bag_2(folder: Path, package: str, storage: str) -> Path:
    from rosbags.rosbag2 import StoragePlugin, Writer

    path, store = folder / "small", store_2()
    _write(
        Writer(path, version=9, storage_plugin=StoragePlugin[storage]), store, _recording(store, package), ros1=False
    )
    return path


def _one_file(folder: Path, package: str, storage: str) -> Path:
    (path,) = (file for file in _bag_2(folder, package, storage).iterdir() if file.suffix in (".mcap", ".db3"))
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "ros 1": partial(_bag_1, package="dvs_msgs"),
    "ros 1 lz4": partial(_bag_1, package="prophesee_event_msgs", compression="LZ4"),
    "ros 1 bz2": partial(_bag_1, package="event_camera_msgs", compression="BZ2"),
    "ros 2 folder": partial(_bag_2, package="dvs_msgs", storage="SQLITE3"),
    "ros 2 db3": partial(_one_file, package="event_camera_msgs", storage="SQLITE3"),
    "ros 2 mcap folder": partial(_bag_2, package="prophesee_event_msgs", storage="MCAP"),
    "mcap": partial(_one_file, package="event_camera_msgs", storage="MCAP"),
}


def ros2_images(folder: Path, images: Sequence[tuple[str, np.ndarray]], *, compressed: bool = False) -> Path:
    """A bag of nothing but images (encoding, data)."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = store_2()

    def messages() -> Iterator[tuple[str, str, int, Any]]:
        for n, (encoding, data) in enumerate(images):
            t_us = START_US + n
            if compressed:
                yield "/image", "sensor_msgs/msg/CompressedImage", t_us, _compressed(store, t_us, data)
            else:
                yield "/image", "sensor_msgs/msg/Image", t_us, _image(store, t_us, encoding, data)

    _write(Writer(folder / "i", version=9, storage_plugin=StoragePlugin.MCAP), store, messages(), ros1=False)
    return folder / "i"


def two_cameras(folder: Path) -> Path:
    """A bag of two event topics."""
    from rosbags.rosbag1 import Writer

    store = store_1()

    def messages() -> Iterator[tuple[str, str, int, Any]]:
        kind = "dvs_msgs/msg/EventArray"
        yield "/left/events", kind, START_US, _events(store, "dvs_msgs", slice(0, COUNT))
        yield "/right/events", kind, START_US + 1, _events(store, "dvs_msgs", slice(0, 10))

    _write(Writer(folder / "two.bag"), store, messages(), ros1=True)
    return folder / "two.bag"


def bag_of_cameras(folder: Path, messages: Sequence[tuple[str, str, int, Any]]) -> Path:
    """A bag of ROS 1 of (topic, what, stamp in us, size or length in us): events, image, depth, packet or length."""
    from rosbags.rosbag1 import Writer

    store = store_1()

    def made() -> Iterator[tuple[str, str, int, Any]]:
        for topic, what, t_us, value in messages:
            if what == "length":
                yield topic, "std_msgs/msg/Int32", t_us, store.types["std_msgs/msg/Int32"](value)
                continue
            width, height = value
            if what == "depth":
                kind, data = "sensor_msgs/msg/Image", np.zeros(4 * width * height, np.uint8)
                image = store.types[kind](_header(store, t_us), height, width, "32FC1", 0, 4 * width, data)
                yield topic, kind, t_us, image
            elif what == "packet":
                kind = "event_camera_msgs/msg/EventPacket"
                yield topic, kind, t_us, _packet(store, t_us, "none", np.zeros(8, np.uint8))
            elif what == "image":
                kind, data = "sensor_msgs/msg/Image", np.full(width * height, len(topic), np.uint8)
                yield (
                    topic,
                    kind,
                    t_us,
                    store.types[kind](_header(store, t_us), height, width, "mono8", 0, width, data),
                )
            else:
                kind, whole = "dvs_msgs/msg/EventArray", _events(store, "dvs_msgs", slice(0, 50))
                whole.width, whole.height = width, height
                for event in whole.events:
                    event.x = len(topic)
                yield topic, kind, t_us, whole

    _write(Writer(folder / "c.bag"), store, made(), ros1=True)
    return folder / "c.bag"


def packets_bag(folder: Path, encoding: str, packets: Sequence[tuple[int, bytes]]) -> Path:
    """A bag of packets (base time in ns, bytes) of an encoding, 640 x 480."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = store_2()

    def messages() -> Iterator[tuple[str, str, int, Any]]:
        for n, (base_ns, data) in enumerate(packets):
            kind = store.types["event_camera_msgs/msg/EventPacket"]
            bytes_ = np.frombuffer(data, np.uint8)
            packet = kind(_header(store, START_US + n), 480, 640, n, base_ns, encoding, False, bytes_)
            yield "/event_camera/events", "event_camera_msgs/msg/EventPacket", START_US + n, packet

    _write(Writer(folder / "p", version=9, storage_plugin=StoragePlugin.MCAP), store, messages(), ros1=False)
    return folder / "p"


def evt3_bag(folder: Path, words: bytes, *, pieces: int) -> Path:
    """A bag of EVT3 words, cut into packets at odd places."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = store_2()
    cuts = np.linspace(0, len(words), pieces + 1).astype(int).tolist()

    def messages() -> Iterator[tuple[str, str, int, Any]]:
        for n, (start, stop) in enumerate(itertools.pairwise(cuts)):
            data = np.frombuffer(words[start:stop], np.uint8)
            kind = store.types["event_camera_msgs/msg/EventPacket"]
            packet = kind(_header(store, START_US + n), 480, 640, n, 0, "evt3", False, data)
            yield "/events", "event_camera_msgs/msg/EventPacket", START_US + n, packet

    _write(Writer(folder / "e", version=9, storage_plugin=StoragePlugin.MCAP), store, messages(), ros1=False)
    return folder / "e"


def header_bytes(data: bytes) -> int:
    """Length of the lines of text at the beginning of a RAW file."""
    at = 0
    while data[at : at + 1] == b"%":
        at = data.index(b"\n", at) + 1
    return at
