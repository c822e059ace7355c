"""Driver: HDF5 recordings of DSEC, MVSEC, and events in columns with images beside them."""

from drivers.recordings.hdf5.source import missing_sdk, open_source, recognise

__all__ = ["missing_sdk", "open_source", "recognise"]
