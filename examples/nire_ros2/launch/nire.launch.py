"""Run the node beside a stream of this machine: ros2 launch nire_ros2 nire.launch.py calibration:=camera.yaml."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

ARGUMENTS = {"plan": "upsample", "rate_hz": 100.0, "calibration": "", "frame_id": "camera"}


def generate_launch_description() -> LaunchDescription:
    """Name the arguments, and start the node in the namespace of the camera."""
    declared = [DeclareLaunchArgument(name, default_value=str(value)) for name, value in ARGUMENTS.items()]
    # With their types, because rate_hz:=100 is no double otherwise.
    told = {
        name: ParameterValue(LaunchConfiguration(name), value_type=type(value)) for name, value in ARGUMENTS.items()
    }
    return LaunchDescription([*declared, Node(package="nire_ros2", executable="node", namespace="camera",
                                              parameters=[told])])  # fmt: skip
