"""As much of rclpy and of generated messages as the node uses; values are checked as rclpy's generated code does."""

from __future__ import annotations

import array
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np


class Message:
    """A message whose fields are checked when they are set; of a name that it has not, it knows nothing."""

    FIELDS: ClassVar[dict[str, Any]] = {}

    def __init__(self, **values: Any) -> None:
        for name, kind in self.FIELDS.items():
            object.__setattr__(self, name, kind() if isinstance(kind, type) else kind[1]())
        for name, value in values.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self.FIELDS[name]
        if isinstance(kind, type):
            good = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        elif kind[0] == "array":
            good = isinstance(value, array.array) and value.typecode == kind[1]().typecode
        else:
            good = isinstance(value, np.ndarray) and value.dtype == np.float64 and value.shape == kind[1]().shape
        assert good, f"rclpy refuses a {type(value).__name__} for {name}"
        object.__setattr__(self, name, value)


class Time(Message):
    FIELDS: ClassVar = {"sec": int, "nanosec": int}


class Header(Message):
    FIELDS: ClassVar = {"stamp": Time, "frame_id": str}


_BYTES = ("array", lambda: array.array("B"))
_HEADED = {"header": Header}


class Image(Message):
    FIELDS: ClassVar = _HEADED | {
        "height": int, "width": int, "encoding": str, "is_bigendian": int, "step": int, "data": _BYTES,
    }  # fmt: skip


class CompressedImage(Message):
    FIELDS: ClassVar = _HEADED | {"format": str, "data": _BYTES}


class CameraInfo(Message):
    FIELDS: ClassVar = _HEADED | {
        "height": int, "width": int, "distortion_model": str, "d": ("array", lambda: array.array("d")),
        "k": ("fixed", lambda: np.zeros(9)), "r": ("fixed", lambda: np.zeros(9)), "p": ("fixed", lambda: np.zeros(12)),
    }  # fmt: skip


class ExposeRequest(Message):
    FIELDS: ClassVar = {"stamp": Time, "exposure_us": float}


class ExposeResponse(Message):
    FIELDS: ClassVar = {"success": bool, "message": str, "image": Image, "uncertainty_us": float}


class SetParametersResult(Message):
    FIELDS: ClassVar = {"successful": bool, "reason": str}


@dataclass
class Parameter:
    name: str
    value: Any


class Publisher:
    def __init__(self, kind: type[Message], topic: str, qos: object) -> None:
        self.kind, self.topic, self.qos = kind, topic, qos
        self.sent: list[Any] = []
        self.subscriptions = 1

    def publish(self, message: Message) -> None:
        assert type(message) is self.kind
        self.sent.append(message)

    def get_subscription_count(self) -> int:
        return self.subscriptions


class Logger:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


class Node:
    """A node that does what it is told by `spin_once` and `call`; `given` are the parameters of its launch."""

    given: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str) -> None:
        self.name = name
        self.publishers: dict[str, Publisher] = {}
        self.services: dict[str, Callable[[Any, Any], Any]] = {}
        self.timers: list[Callable[[], None]] = []
        self.changed: list[Callable[[list[Parameter]], SetParametersResult]] = []
        self.logger = Logger()

    def declare_parameter(self, name: str, default: Any) -> Parameter:
        value = self.given.get(name, default)
        assert type(value) is type(default), f"rclpy refuses a parameter of another type: {name}"
        return Parameter(name, value)

    def create_publisher(self, kind: type[Message], topic: str, qos: object) -> Publisher:
        return self.publishers.setdefault(topic, Publisher(kind, topic, qos))

    def create_service(self, kind: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        self.services[name] = callback

    def create_timer(self, period_s: float, callback: Callable[[], None]) -> None:
        self.timers.append(callback)

    def add_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], SetParametersResult]) -> None:
        self.changed.append(callback)

    def get_logger(self) -> Logger:
        return self.logger

    def destroy_node(self) -> None:
        pass

    def spin_once(self) -> None:
        for timer in self.timers:
            timer()


@dataclass
class Launched:
    """Anything of a launch file: what it was given."""

    words: tuple[Any, ...]
    named: dict[str, Any]

    @classmethod
    def made(cls, *words: Any, **named: Any) -> Launched:
        return cls(words, named)


@contextmanager
def installed() -> Iterator[None]:
    """Let `import rclpy` find this."""
    qos = object()
    modules = {
        "rclpy": {},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {"qos_profile_sensor_data": qos},
        "builtin_interfaces": {},
        "builtin_interfaces.msg": {"Time": Time},
        "rcl_interfaces": {},
        "rcl_interfaces.msg": {"SetParametersResult": SetParametersResult},
        "sensor_msgs": {},
        "sensor_msgs.msg": {"Image": Image, "CompressedImage": CompressedImage, "CameraInfo": CameraInfo},
        "launch": {"LaunchDescription": Launched.made},
        "launch.actions": {"DeclareLaunchArgument": Launched.made},
        "launch.substitutions": {"LaunchConfiguration": Launched.made},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Launched.made},
        "launch_ros.parameter_descriptions": {"ParameterValue": Launched.made},
        "nire_ros2_interfaces": {},
        "nire_ros2_interfaces.srv": {"Expose": object()},
    }
    for name, holds in modules.items():
        module = ModuleType(name)
        vars(module).update(holds)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
