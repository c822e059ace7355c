"""Build the package of ROS 2; `colcon build` calls it."""

from setuptools import setup

setup(
    name="nire_ros2",
    version="0.2.0",
    packages=["nire_ros2"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/nire_ros2"]),
        ("share/nire_ros2", ["package.xml"]),
        ("share/nire_ros2/launch", ["launch/nire.launch.py"]),
    ],
    license="Apache-2.0",
    entry_points={"console_scripts": ["node = nire_ros2.node:main"]},
)
