"""Run the node beside a stream of this machine: ros2 launch nire_ros2 nire.launch.py calibration:=camera.yaml."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

ARGUMENTS = {"plan": "upsample", "rate_hz": "100.0", "calibration": "", "frame_id": "camera"}


def generate_launch_description() -> LaunchDescription:
    """Name the arguments, and start the node in the namespace of the camera."""
    declared = [DeclareLaunchArgument(name, default_value=value) for name, value in ARGUMENTS.items()]
    parameters = [{name: LaunchConfiguration(name) for name in ARGUMENTS}]
    return LaunchDescription([*declared, Node(package="nire_ros2", executable="node", namespace="camera",
                                              parameters=parameters)])  # fmt: skip
