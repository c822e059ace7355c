"""Driver: recordings of jAER and cAER, AEDAT 2.0 and 3.1."""

from drivers.recordings.aedat.source import open_source, recognise

__all__ = ["open_source", "recognise"]
