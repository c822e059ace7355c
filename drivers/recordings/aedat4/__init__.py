"""Driver and writer: AEDAT4 recordings."""

from drivers.recordings.aedat4.source import open_source, recognise
from drivers.recordings.aedat4.writer import SUFFIX, create_writer

__all__ = ["SUFFIX", "create_writer", "open_source", "recognise"]
