"""Driver: `events.txt` and `images.txt`, in a folder, zipped or alone."""

from drivers.recordings.text.source import open_source, recognise

__all__ = ["open_source", "recognise"]
