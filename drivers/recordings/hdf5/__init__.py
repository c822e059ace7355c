"""Driver and writer: HDF5 recordings of DSEC, MVSEC, and events in columns with images beside them."""

from drivers.recordings.hdf5.source import READS_APART, missing_sdk, open_source, recognise
from drivers.recordings.hdf5.writer import SUFFIX, create_writer

__all__ = ["READS_APART", "SUFFIX", "create_writer", "missing_sdk", "open_source", "recognise"]
