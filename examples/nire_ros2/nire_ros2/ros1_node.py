"""A node of ROS 1: images of a nire-live stream as sensor_msgs. Parameters are private (~address, ~plan, ...).

Run it without building: PYTHONPATH=examples/nire_ros2 python3 -m nire_ros2.ros1_node _plan:=upsample
"""

from __future__ import annotations

import sys
import time
from typing import Any

import rosgraph
import rospy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from nire_ros2 import conversion
from nire_ros2.stream import Stream

_POLL_S = 0.001
_MASTER_CHECK_S = 0.2
_PLAN = {"rate_hz": 100.0, "exposure_us": 0.0, "row_delay_us": 0.0, "offset_us": 0.0}


def message_of(kind: type[Any], image: conversion.Received, fields: dict[str, Any], frame_id: str) -> Any:
    """Make a message of ROS 1, whose matrices have capital letters."""
    message = kind()
    message.header.stamp = rospy.Time(*divmod(image.stamp_ns, 1_000_000_000))
    message.header.frame_id = frame_id
    for name, value in fields.items():
        setattr(message, name.upper() if name in ("d", "k", "r", "p") else name, _plain(name, value))
    return message


def _plain(name: str, value: Any) -> Any:
    return value.tobytes() if name == "data" else value.tolist() if hasattr(value, "tolist") else value


def _await_master() -> None:
    """Parameters on the command line need a master at once; started together with it, a node may be the faster one."""
    told = False
    while not rosgraph.is_master_online():
        if not told:
            print(f"no master at {rosgraph.get_master_uri()} yet: is roscore running?", file=sys.stderr, flush=True)
            told = True
        time.sleep(_MASTER_CHECK_S)


def main() -> None:
    """Publish `image_raw`, `image_raw/compressed` and `camera_info` until the node is shut down."""
    _await_master()
    rospy.init_node("nire_live")
    plan, frame_id = rospy.get_param("~plan", "upsample"), rospy.get_param("~frame_id", "camera")
    calibration = rospy.get_param("~calibration", "")
    info = conversion.camera_info_fields(calibration) if calibration else None
    address = rospy.get_param("~address", "tcp://127.0.0.1:5556")
    stream = Stream(address, rospy.get_param("~control", "tcp://127.0.0.1:5557"), plan)
    if rospy.get_param("~set_plan", True):
        wanted = {name: rospy.get_param(f"~{name}", default) for name, default in _PLAN.items()}
        stream.want(conversion.plan_request({"name": plan, **wanted}))
    images = rospy.Publisher("image_raw", Image, queue_size=2)
    compressed = rospy.Publisher("image_raw/compressed", CompressedImage, queue_size=2)
    infos = rospy.Publisher("camera_info", CameraInfo, queue_size=2)
    while not rospy.is_shutdown():
        try:
            image = stream.newest()
        except ValueError as error:
            rospy.logwarn(str(error))
            continue
        if image is None:
            rospy.sleep(_POLL_S)
            continue
        images.publish(message_of(Image, image, conversion.image_fields(image), frame_id))
        if compressed.get_num_connections():
            compressed.publish(message_of(CompressedImage, image, conversion.compressed_fields(image), frame_id))
        if info is not None:
            infos.publish(message_of(CameraInfo, image, info, frame_id))
    stream.close()


if __name__ == "__main__":
    main()
