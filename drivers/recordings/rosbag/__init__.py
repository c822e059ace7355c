"""Driver and writer: bags of ROS 1 and ROS 2, MCAP."""

from drivers.recordings.rosbag.mcap_writer import SUFFIX, create_writer
from drivers.recordings.rosbag.source import open_source, recognise

__all__ = ["SUFFIX", "create_writer", "open_source", "recognise"]
