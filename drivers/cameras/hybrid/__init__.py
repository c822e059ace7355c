"""Driver: an event camera with trigger edges and a frame camera as one."""

from drivers.cameras.hybrid.source import missing_sdk, open_source

__all__ = ["missing_sdk", "open_source"]
