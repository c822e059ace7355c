"""A recording or a viewer of rerun: images, events as a picture, latencies and thresholds on robot time."""

from __future__ import annotations

import importlib.util
import socket
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np

from nire.errors import ConfigError
from nire.install import pip_install
from nire.types import ExposedFrame
from stream.desktop import has_display
from stream.sockets.wire import Message

TARGET = "viewer"
TOPICS = ("captured", "events", "status")
_TIMELINE = "wall"
_PORT = 9876  # of rerun's viewers, unless they are told another one
_REACHED_WITHIN_S = 3.0


def missing() -> str:
    """Tell what to install."""
    return "" if importlib.util.find_spec("rerun") else pip_install("rerun")


def follow(target: str) -> Rerun:
    """Write NAME.rrd, connect to a viewer at rerun+http://HOST:PORT/proxy, or start one ("viewer").

    Raises:
        ConfigError: it is none of these, cannot be reached or written, or there is no display for a viewer.
    """
    return Rerun(target)


class Rerun:
    """Logs `exposed`, `captured`, `events` (images), `latency_ms` and `threshold` (plots).

    The timeline `wall` is wall time of the middle of the exposure, or the time of sending where that is not known. An
    event image is gray: 128 and the count, brighter minus darker.
    """

    def __init__(self, target: str) -> None:
        """Begin; see `follow`."""
        import rerun

        self._rerun: Any = rerun
        self._recording = rerun.RecordingStream("nire-live")
        try:
            if target == TARGET:
                _require_display()
                self._recording.spawn()
            elif target.endswith(".rrd"):
                self._recording.save(target)
            elif target.startswith("rerun+http://"):
                _require_viewer(target)
                self._recording.connect_grpc(target)
            else:
                raise ConfigError(
                    f"--to {target!r}: expected NAME.rrd, rerun+http://HOST:PORT/proxy, or viewer to start one"
                )
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"rerun cannot begin at {target}: {error}") from error

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Log an exposed frame."""
        self._at(frame.wall_ns)
        self._recording.log("exposed", self._rerun.Image(frame.pixels))

    def take(self, message: Message) -> None:
        """Log what the stream says on another topic."""
        self._at(message.header.get("wall_ns"))
        if message.topic == "status":
            stages, calibration = (message.header.get(key) or {} for key in ("latency_ms", "calibration"))
            latencies = {f"latency_ms/{stage}": told.get("p50") for stage, told in stages.items()}
            signs = ("positive", "negative")
            thresholds = {f"threshold/{sign}": calibration.get(f"threshold_{sign}") for sign in signs}
            for name, value in (latencies | thresholds).items():
                if value is not None:
                    self._recording.log(name, self._rerun.Scalars(float(value)))
        elif isinstance(message.pixels, np.ndarray):
            signed = message.pixels.dtype == np.int8
            pixels = (message.pixels.astype(np.int16) + 128).astype(np.uint8) if signed else message.pixels
            self._recording.log(message.topic, self._rerun.Image(pixels))

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let all that was logged leave."""
        self._recording.flush()
        self._recording.disconnect()

    def _at(self, wall_ns: int | None) -> None:
        self._recording.set_time(_TIMELINE, timestamp=np.datetime64(wall_ns or time.time_ns(), "ns"))


def _require_display() -> None:
    if not has_display():  # the viewer would start, and end unseen
        raise ConfigError(
            "there is no display for rerun's viewer (DISPLAY and WAYLAND_DISPLAY are not set): write a recording, "
            "nire-live send rerun --to NAME.rrd, or send to the viewer of another machine, "
            f"nire-live send rerun --to rerun+http://HOST:{_PORT}/proxy"
        )


def _require_viewer(target: str) -> None:
    """Find out now: rerun itself tries for long, and says so only at the end."""
    try:
        place = urlsplit(target)
        socket.create_connection((place.hostname or "", place.port or _PORT), _REACHED_WITHIN_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no viewer of rerun answers at {target} ({error}); start one there, `rerun`, or let one start here, "
            f"--to {TARGET}"
        ) from error
