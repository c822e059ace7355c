"""Stream from a camera and write what it sends to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivers.writing import writer_for
from stream.options import ConfigFile, LogLevel, Overrides, Preview, Seconds, load, supervise
from stream.sources import SourceOrder


def command(
    config: ConfigFile,
    out: Annotated[Path, typer.Argument(help="File to write: NAME.nire, .aedat4 or .mcap.", show_default=False)],
    preview: Preview = False,
    seconds: Seconds = None,
    overrides: Overrides = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Stream from a camera and write what it sends to a file, until Ctrl-C."""
    writer_for(out)
    loaded = load(config, overrides, log_level)
    supervise(loaded, SourceOrder(), preview=preview, seconds=seconds, record_to=out)
