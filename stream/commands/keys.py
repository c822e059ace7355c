"""Keys for streams that are reached from other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.commands import HELP
from stream.sockets.keys import new

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, context_settings=HELP)


@app.callback()
def _root() -> None:
    # With a callback a single command keeps its name.
    pass


@app.command("new")
def keys_new(
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _.", show_default=False)],
    folder: Annotated[Path, typer.Option(help="Where to write NAME.key and NAME.key_secret.")] = Path("keys"),
) -> None:
    """Make a key pair: give NAME.key away, keep NAME.key_secret."""
    public, secret = new(name, folder)
    print(f"public key, to give away: {public}\nsecret key, to keep:      {secret}")
