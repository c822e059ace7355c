"""Play a recording as if it were a camera."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from drivers.packets.playback import SPEEDS
from nire.errors import ConfigError
from stream.arguments import without_config
from stream.options import ConfigRecording, LogLevel, Overrides, Preview, Seconds, load, supervise
from stream.sources import SourceOrder


def command(
    words: ConfigRecording,
    speed: Annotated[str, typer.Option(help="Factor on real time, or max: as fast as the pipeline goes.")] = "1",
    loop: Annotated[
        int | None, typer.Option(metavar="[N]", min=0, help="Play N times, without N for ever.", show_default=False)
    ] = None,
    preview: Preview = False,
    seconds: Seconds = None,
    overrides: Overrides = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Play a recording as if it were a camera: same processes, rings and sockets."""
    config, (recording,) = without_config("replay", words, ["RECORDING"])
    loaded = load(config, overrides, log_level)
    order = SourceOrder(recording, speed=_speed_of(speed), loops=1 if loop is None else loop)
    supervise(loaded, order, preview=preview, seconds=seconds)


def _speed_of(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not SPEEDS[0] <= speed <= SPEEDS[1]:
        raise ConfigError(f"--speed {text}: expected a factor such as 0.5 or 1, or 'max'")
    return speed
