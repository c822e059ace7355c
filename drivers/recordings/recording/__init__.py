"""Driver and writer: our own format (`.nire`), readable after a crash."""

from drivers.recordings.recording.source import SUFFIX, create_writer, open_source, recognise

__all__ = ["SUFFIX", "create_writer", "open_source", "recognise"]
