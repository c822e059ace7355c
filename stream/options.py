"""Options that several commands share, and what is done with them before a command begins."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from nire.errors import ConfigError
from stream.config import Config, load_config
from stream.processes import log as logs
from stream.sources import SourceOrder

ConfigFile = Annotated[
    Path, typer.Argument(help="A TOML file; `nire-live config` prints one for each camera.", show_default=False)
]
ConfigFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="CONFIG...",
        help="A TOML file for each camera; `nire-live config` prints one for each kind.",
        show_default=False,
    ),
]
Recording = Annotated[Path, typer.Argument(help="A recording; its kind is told from its content.", show_default=False)]
ConfigRecording = Annotated[
    list[Path],
    typer.Argument(
        metavar="[CONFIG] RECORDING",
        help="A TOML file, where the defaults are not enough; a recording, its kind is told from its content.",
        show_default=False,
    ),
]
ConfigRecordingOut = Annotated[
    list[Path],
    typer.Argument(
        metavar="[CONFIG] RECORDING OUT",
        help="A TOML file, where the defaults are not enough; a recording, its kind is told from its content; "
        "a folder for frames/, frames.jsonl and run.json.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a config key, e.g. plan.rate_hz=800.", show_default=False
    ),
]
LogLevel = Annotated[str, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")]
Preview = Annotated[bool, typer.Option("--preview", help="Also serve and open the preview page.")]
Seconds = Annotated[float | None, typer.Option(min=0.1, help="End after so many seconds.", show_default=False)]
DEFAULT_IMAGES = "tcp://127.0.0.1:5556"
"""Where a stream of this machine publishes, unless its config says another place."""
DEFAULT_CONTROL = "tcp://127.0.0.1:5557"
"""Where a stream of this machine is asked, unless its config says another place."""

Address = Annotated[str, typer.Option(help="The stream's control address.")]
CameraName = Annotated[str, typer.Option("--camera", metavar="NAME", help="Of several cameras, the one that is meant.")]
OwnKey = Annotated[Path | None, typer.Option(help="Secret key of this client.", show_default=False)]
ServerKey = Annotated[Path | None, typer.Option(help="Public key of the stream.", show_default=False)]
Assignments = Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", show_default=False)]


def load(config: Path | None, overrides: list[str] | None, log_level: str) -> Config:
    """Begin to log, then read the config; None = defaults only.

    Raises:
        ConfigError: no such level, file or key.
    """
    configure_log(log_level)
    return load_config(config, overrides or ())


def configure_log(level: str) -> None:
    """Log to stderr from now on.

    Raises:
        ConfigError: no such level.
    """
    if level.upper() not in logging.getLevelNamesMapping():
        raise ConfigError(f"--log-level {level}: expected DEBUG, INFO, WARNING or ERROR")
    logs.configure(level.upper())


def keys_of(own_key: Path | None, server_key: Path | None) -> Any:
    """Load the keys of a client; None where none are named.

    Raises:
        ConfigError: only one of the two is given, or a file cannot be used.
    """
    if own_key is None and server_key is None:
        return None
    if own_key is None or server_key is None:
        raise ConfigError("--own-key and --server-key go together: give both, or none")
    from stream.sockets.keys import ClientKeys

    return ClientKeys.load(own_key, server_key)


def supervise(
    configs: Config | Sequence[Config],
    order: SourceOrder,
    *,
    preview: bool,
    seconds: float | None,
    record_to: Path | None = None,
) -> None:
    """Run a stream, of one camera or several, until it ends, and leave with its exit code."""
    from stream.processes.supervisor import run

    leave(run(configs, order, preview=preview, seconds=seconds, record_to=record_to))


def leave(code: int) -> None:
    """End the command with an exit code."""
    raise typer.Exit(code)
