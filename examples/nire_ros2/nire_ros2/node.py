"""A node of ROS 2: images of a nire-live stream as sensor_msgs, and a service that exposes any moment."""

from __future__ import annotations

from array import array
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from nire_ros2_interfaces.srv import Expose
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from nire_ros2 import conversion
from nire_ros2.stream import Stream

_POLL_S = 0.001
_CODES = {"data": "B", "d": "d"}
_PLAN = {"rate_hz": 100.0, "exposure_us": 0.0, "row_delay_us": 0.0, "offset_us": 0.0}


class NireNode(Node):
    """Publishes `image_raw`, `image_raw/compressed` and `camera_info`; serves `expose`.

    Parameters: `address` and `control` of the stream, `frame_id`, `calibration` (a YAML file of camera_calibration),
    `plan` (deblur, unroll, upsample, reshutter), and the plan's `rate_hz exposure_us row_delay_us offset_us`, which may
    be changed while it runs.
    """

    def __init__(self) -> None:
        """Read the parameters and connect."""
        super().__init__("nire_live")
        told = {
            name: self.declare_parameter(name, default).value
            for name, default in (
                ("address", "tcp://127.0.0.1:5556"),
                ("control", "tcp://127.0.0.1:5557"),
                ("frame_id", "camera"),
                ("calibration", ""),
                ("plan", "upsample"),
                ("set_plan", True),
                *_PLAN.items(),
            )
        }
        self._frame_id = told["frame_id"]
        self._info = conversion.camera_info_fields(told["calibration"]) if told["calibration"] else None
        self._stream = Stream(told["address"], told["control"], told["plan"])
        self._images = self.create_publisher(Image, "image_raw", qos_profile_sensor_data)
        self._compressed = self.create_publisher(CompressedImage, "image_raw/compressed", qos_profile_sensor_data)
        self._infos = self.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
        self.create_service(Expose, "expose", self._expose)
        self.add_on_set_parameters_callback(self._changed)
        self.create_timer(_POLL_S, self._publish)
        if told["set_plan"]:
            self._stream.want(conversion.plan_request({"name": told["plan"], **{name: told[name] for name in _PLAN}}))

    def destroy_node(self) -> None:
        """Disconnect."""
        self._stream.close()
        super().destroy_node()

    def _publish(self) -> None:
        try:
            image = self._stream.newest()
        except ValueError as error:
            self.get_logger().warning(str(error))
            return
        if image is None:
            return
        self._images.publish(self._message(Image, image, conversion.image_fields(image)))
        if self._compressed.get_subscription_count():
            self._compressed.publish(self._message(CompressedImage, image, conversion.compressed_fields(image)))
        if self._info is not None:
            self._infos.publish(self._message(CameraInfo, image, self._info))

    def _expose(self, request: Any, response: Any) -> Any:
        stamp_ns = request.stamp.sec * 1_000_000_000 + request.stamp.nanosec
        try:
            image = self._stream.expose(stamp_ns, request.exposure_us)
        except ValueError as error:
            response.success, response.message = False, str(error)
            return response
        response.success = True
        response.image = self._message(Image, image, conversion.image_fields(image))
        response.uncertainty_us = float(image.header.get("wall_uncertainty_us", -1.0))
        return response

    def _changed(self, parameters: list[Any]) -> SetParametersResult:
        changes = {parameter.name: parameter.value for parameter in parameters if parameter.name in _PLAN}
        problem = self._ask_plan(changes) if changes else ""
        return SetParametersResult(successful=not problem, reason=problem)

    def _ask_plan(self, changes: dict[str, Any]) -> str:
        try:
            self._stream.ask(conversion.plan_request(changes))
        except ValueError as error:
            self.get_logger().warning(str(error))
            return str(error)
        return ""

    def _message(self, kind: type[Any], image: conversion.Received, fields: dict[str, Any]) -> Any:
        message = kind()
        message.header.stamp = Time(**conversion.time_fields(image.stamp_ns))
        message.header.frame_id = self._frame_id
        for name, value in fields.items():
            # Sequences without a fixed length are arrays of the standard library: rclpy checks no item of these.
            setattr(message, name, array(_CODES[name], value.tobytes()) if name in _CODES else value)
        return message


def main() -> None:
    """Run until Ctrl-C."""
    rclpy.init()
    node = NireNode()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
