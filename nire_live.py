"""The library on one page: `import nire_live as nl`, then `nl.open`, `nl.reexpose`, `nl.connect`, `nl.save`.

    with nl.open("my.aedat4") as recording:
        for window in recording.windows():
            image = window.expose(t_us)
    nl.save(nl.reexpose("my.aedat4", "upsample", rate_hz=500), "out/my")
    with nl.connect() as stream:
        image = stream.expose(stream.newest_us - 5000)

Times are device time in microseconds, images uint8, arrays [H, W]. Importing this brings no torch.
"""

from importlib.metadata import PackageNotFoundError, version

from drivers.source import SourceInfo
from nire.errors import ConfigError, NireError, RecordingDamaged, ShutterOutsideWindow, SourceError
from nire.shutter import Shutter
from nire.types import ExposedFrame, Frame
from stream.api import connect, open, reexpose
from stream.images import save
from stream.recording import EVENT, Recording, Window
from stream.sockets.connection import Connection

try:
    __version__ = version("nire-live")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

__all__ = [
    "EVENT",
    "ConfigError",
    "Connection",
    "ExposedFrame",
    "Frame",
    "NireError",
    "Recording",
    "RecordingDamaged",
    "Shutter",
    "ShutterOutsideWindow",
    "SourceError",
    "SourceInfo",
    "Window",
    "__version__",
    "connect",
    "open",
    "reexpose",
    "save",
]

if __name__ == "__main__":  # python -m nire_live: the command
    from stream.cli import main

    main()
