"""Driver: an event camera with trigger edges and a frame camera as one."""

from drivers.cameras.hybrid.source import open_source

__all__ = ["open_source"]
