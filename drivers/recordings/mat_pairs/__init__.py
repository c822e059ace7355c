"""Driver: folders of image and event pairs, as the data of eSL-Net has them."""

from drivers.recordings.mat_pairs.source import open_source, recognise

__all__ = ["open_source", "recognise"]
