"""Stream from a camera and write what it sends to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from drivers.writing import writer_for
from nire.errors import ConfigError
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
    """Stream from one camera and write what it sends to a file, until Ctrl-C.

    Of several cameras that run under `live`, each is recorded by `ctl record FILE --camera NAME`.
    """
    writer_for(out)
    # A stream goes on without its recorder; whoever names a wrong place wants to know it before.
    if out.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write {out}: name a file, in a folder that is there and that you may write to")
    loaded = load(config, overrides, log_level)
    supervise(loaded, SourceOrder(), preview=preview, seconds=seconds, record_to=out)
