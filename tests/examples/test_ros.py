"""The ROS nodes: conversion against the types of rosbags, ROS 2 over a stub, ROS 1 for real where it is installed."""

from __future__ import annotations

import ast
import importlib
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from nire.types import ExposedFrame
from stream.sockets import wire
from stream.sockets.subscriber import Subscriber
from tests.golden import messages
from tests.stream.fake_stream import HEIGHT, WIDTH, FakeStream
from tests.system.live_stream import free_ports
from tests.waiting import PATIENCE_MS, PATIENCE_S, until

PACKAGE = Path(__file__).parents[2] / "examples" / "nire_ros2"
CALIBRATION = """
image_width: 346
image_height: 260
distortion_model: plumb_bob
camera_matrix: {rows: 3, cols: 3, data: [250.0, 0.0, 173.0, 0.0, 250.0, 130.0, 0.0, 0.0, 1.0]}
distortion_coefficients: {rows: 1, cols: 5, data: [-0.3, 0.1, 0.0, 0.0, 0.0]}
rectification_matrix: {rows: 3, cols: 3, data: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]}
projection_matrix: {rows: 3, cols: 4, data: [250.0, 0.0, 173.0, 0.0, 0.0, 250.0, 130.0, 0.0, 0.0, 0.0, 1.0, 0.0]}
"""


@pytest.fixture
def stream() -> Iterator[FakeStream]:
    stream = FakeStream()
    yield stream
    stream.close()


@pytest.fixture
def conversion(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(PACKAGE)
    yield importlib.import_module("nire_ros2.conversion")
    for name in [name for name in sys.modules if name.partition(".")[0] == "nire_ros2"]:
        del sys.modules[name]


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    (tmp_path / "camera.yaml").write_text(CALIBRATION)
    return tmp_path / "camera.yaml"


@pytest.mark.parametrize("name", ["frame", "frame_wall_time"])
def test_image_is_that_of_the_wire_with_its_stamp(conversion: ModuleType, name: str) -> None:
    pytest.importorskip("rosbags")
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    data = messages.published()[name]
    told = wire.unpack(data)
    image = conversion.received(data, 5_000_000_000)
    stamp = store.types["builtin_interfaces/msg/Time"](**conversion.time_fields(image.stamp_ns))
    header = store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
    message = store.types["sensor_msgs/msg/Image"](header=header, **conversion.image_fields(image))
    back = store.deserialize_cdr(store.serialize_cdr(message, "sensor_msgs/msg/Image"), "sensor_msgs/msg/Image")
    np.testing.assert_array_equal(back.data.reshape(told.pixels.shape), told.pixels)  # type: ignore[union-attr]
    assert back.encoding == ("mono8" if back.step == back.width else "rgb8")
    stamped_ns = back.header.stamp.sec * 1_000_000_000 + back.header.stamp.nanosec
    assert stamped_ns == told.header.get("wall_ns", 5_000_000_000)
    packed = store.types["sensor_msgs/msg/CompressedImage"](header=header, **conversion.compressed_fields(image))
    decoded = cv2.imdecode(np.asarray(packed.data), cv2.IMREAD_UNCHANGED)
    seen = decoded[..., None] if decoded.ndim == 2 else decoded[..., ::-1]
    np.testing.assert_array_equal(seen, told.pixels)


def test_calibration_becomes_camera_info(conversion: ModuleType, calibration: Path) -> None:
    pytest.importorskip("rosbags")
    pytest.importorskip("yaml")
    from rosbags.typesys import Stores, get_typestore

    fields = conversion.camera_info_fields(calibration)
    known = get_typestore(Stores.ROS2_HUMBLE).types["sensor_msgs/msg/CameraInfo"].__dataclass_fields__
    assert fields.keys() <= known.keys()
    assert (fields["width"], fields["height"], fields["k"][0], len(fields["d"])) == (346, 260, 250.0, 5)
    calibration.write_text("image_width: 346\n")
    with pytest.raises(ValueError, match="no calibration"):
        conversion.camera_info_fields(calibration)


@pytest.mark.parametrize(
    "name", [*sorted(messages.damaged().keys() - {"shutter_is_not_finite"}), "status", "events", "jpeg"]
)
def test_message_without_an_image_is_refused(conversion: ModuleType, name: str) -> None:
    data = messages.damaged().get(name) or messages.published()[name]
    with pytest.raises(ValueError):  # noqa: PT011 - msgpack and numpy have their own words
        conversion.received(data, 0)


def test_ros2_node_publishes_images_with_their_stamps_and_exposes(
    stream: FakeStream, conversion: ModuleType, calibration: Path
) -> None:
    pytest.importorskip("yaml")
    from tests.examples import ros2_stub

    ros2_stub.Node.given = {
        "address": stream.address, "control": stream.control.address, "plan": "upsample", "rate_hz": 200.0,
        "calibration": str(calibration),
    }  # fmt: skip
    with ros2_stub.installed():
        node: Any = importlib.import_module("nire_ros2.node").NireNode()
        try:
            until(lambda: node.spin_once() or stream.plan.name == "upsample")
            assert stream.plan.rate_hz == 200
            with Subscriber(stream.address, ["frame/upsample"]) as subscriber:
                seen = _seen_by_both(node, subscriber)
            message, frame = seen
            assert (message.width, message.height, message.encoding) == (WIDTH, HEIGHT, "mono8")
            np.testing.assert_array_equal(
                np.frombuffer(message.data, np.uint8).reshape(frame.pixels.shape), frame.pixels
            )
            info = node.publishers["camera_info"].sent[-1]
            assert info.k[0] == 250
            assert info.header.frame_id == "camera"
            packed = node.publishers["image_raw/compressed"].sent[-1]
            assert cv2.imdecode(np.frombuffer(packed.data, np.uint8), cv2.IMREAD_UNCHANGED).shape == (HEIGHT, WIDTH)
            stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            request = ros2_stub.ExposeRequest(
                stamp=ros2_stub.Time(**conversion.time_fields(stamp_ns)), exposure_us=500.0
            )
            answer = node.services["expose"](request, ros2_stub.ExposeResponse())
            assert answer.success, answer.message
            answered_ns = answer.image.header.stamp.sec * 1_000_000_000 + answer.image.header.stamp.nanosec
            assert abs(answered_ns - stamp_ns) < 1_000_000
            assert answer.uncertainty_us == 500.0
            early = ros2_stub.ExposeRequest(stamp=ros2_stub.Time(sec=1, nanosec=0), exposure_us=0.0)
            refused = node.services["expose"](early, ros2_stub.ExposeResponse())
            assert not refused.success
            assert "before the beginning" in refused.message
            (changed,) = node.changed
            assert changed([ros2_stub.Parameter("rate_hz", 321.0)]).successful
            assert stream.plan.rate_hz == 321
            bad = changed([ros2_stub.Parameter("rate_hz", -1.0)])
            assert not bad.successful
            assert "rate_hz" in bad.reason
        finally:
            node.destroy_node()


def test_ros2_launch_file_gives_the_node_parameters_that_it_has_in_their_types(conversion: ModuleType) -> None:
    from tests.examples import ros2_stub

    with ros2_stub.installed():
        told = runpy.run_path(str(PACKAGE / "launch" / "nire.launch.py"))["generate_launch_description"]()
        *arguments, node = told.words[0]
        (parameters,) = node.named["parameters"]
        assert [argument.words[0] for argument in arguments] == list(parameters)
        kinds = {name: value.named["value_type"] for name, value in parameters.items()}
        program = node.named["package"], node.named["executable"]
        # The node refuses a parameter of another type than its own.
        ros2_stub.Node.given = {name: kind() for name, kind in kinds.items()} | {"set_plan": False}
        importlib.import_module("nire_ros2.node").NireNode().destroy_node()
    known = ast.parse((PACKAGE / "nire_ros2" / "node.py").read_text())
    words = {node.value for node in ast.walk(known) if isinstance(node, ast.Constant)}
    assert set(kinds) <= words
    assert f"{program[1]} = {program[0]}.node:main" in (PACKAGE / "setup.py").read_text()


def test_ros2_node_that_is_there_before_its_stream_sets_the_plan_once_it_comes(conversion: ModuleType) -> None:
    from tests.examples import ros2_stub

    publish, control = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    ros2_stub.Node.given = {"address": publish, "control": control, "plan": "upsample", "rate_hz": 123.0}
    with ros2_stub.installed():
        node: Any = importlib.import_module("nire_ros2.node").NireNode()
        try:
            node.spin_once()
            stream = FakeStream(publish, control)
            try:
                until(lambda: node.spin_once() or node.publishers["image_raw"].sent)
                assert (stream.plan.name, stream.plan.rate_hz) == ("upsample", 123.0)
                assert node.logger.warnings == []
            finally:
                stream.close()
        finally:
            node.destroy_node()


def test_ros2_node_says_why_its_plan_is_refused_and_goes_on(stream: FakeStream, conversion: ModuleType) -> None:
    from tests.examples import ros2_stub

    addresses = {"address": stream.address, "control": stream.control.address}
    ros2_stub.Node.given = {**addresses, "plan": "deblur", "rate_hz": -1.0}
    with ros2_stub.installed():
        node: Any = importlib.import_module("nire_ros2.node").NireNode()
        try:
            until(lambda: node.spin_once() or (node.logger.warnings and node.publishers["image_raw"].sent))
            (warning,) = node.logger.warnings
            assert "rate_hz" in warning
        finally:
            node.destroy_node()


def _seen_by_both(node: Any, subscriber: Subscriber) -> tuple[Any, ExposedFrame]:
    """The newest image that the node has published, and the same from the wire."""
    frames: dict[int, ExposedFrame] = {}
    found: list[tuple[Any, ExposedFrame]] = []

    def look() -> bool:
        node.spin_once()
        while (message := subscriber.recv(0)) is not None:
            frame = wire.frame_of(message)
            frames[frame.wall_ns or 0] = frame
        for sent in node.publishers["image_raw"].sent:
            stamp = sent.header.stamp
            if (frame := frames.get(stamp.sec * 1_000_000_000 + stamp.nanosec)) is not None:
                found.append((sent, frame))
        return bool(found)

    until(look)
    return found[-1]


@pytest.mark.system
@pytest.mark.skipif(shutil.which("rosmaster") is None, reason="needs ROS 1 (Debian packages ros-core, python3-rospy)")
def test_ros1_node_publishes_what_the_wire_has(stream: FakeStream, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    python = "/usr/bin/python3"
    there = subprocess.run([python, "-c", "import rospy, zmq, msgpack, numpy, sensor_msgs.msg"], check=False)
    if there.returncode:
        pytest.skip("needs rospy, zmq, msgpack and numpy in Debian's Python")
    environment = {
        "ROS_MASTER_URI": f"http://127.0.0.1:{port}", "ROS_IP": "127.0.0.1", "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path), "ROS_LOG_DIR": str(tmp_path), "PYTHONPATH": str(PACKAGE),
    }  # fmt: skip
    settings = (f"_address:={stream.address}", f"_control:={stream.control.address}", "_plan:=upsample")
    commands = (["rosmaster", "--core", "-p", str(port)], [python, "-m", "nire_ros2.ros1_node", *settings])
    running = []
    try:
        for command in commands:
            running.append(subprocess.Popen(command, env=environment, cwd=tmp_path))
        with Subscriber(stream.address, ["frame/upsample"], high_water_mark=100_000) as subscriber:
            done = subprocess.run(
                [python, "-c", LISTEN],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                timeout=PATIENCE_S,
                check=False,
            )
            assert done.returncode == 0, done.stderr.decode()
            stamp, _, pixels = done.stdout.partition(b" ")
            while True:
                message = subscriber.recv(PATIENCE_MS)
                assert message is not None
                if message.header["wall_ns"] == int(stamp):
                    break
        # rospy itself may print a line behind them when it shuts down.
        expected = message.pixels.ravel()
        np.testing.assert_array_equal(np.frombuffer(pixels, np.uint8)[: len(expected)], expected)  # type: ignore[union-attr]
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(PATIENCE_S)


LISTEN = """
import sys, time, rosgraph, rospy
from sensor_msgs.msg import Image
while not rosgraph.is_master_online(): time.sleep(0.1)
rospy.init_node("listener")
image = rospy.wait_for_message("image_raw", Image)
sys.stdout.buffer.write(str(image.header.stamp.to_nsec()).encode() + b" " + image.data)
"""
