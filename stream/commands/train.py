"""Train a network on rendered scenes or your own footage."""

from __future__ import annotations

import typer

from nire.training.__main__ import main as run
from stream.options import leave

# The options belong to whom the words are passed on to, `--help` too.
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def command(context: typer.Context) -> None:
    """Train a network on rendered scenes or your own footage; the same as python -m nire.training. See --help."""
    leave(run(context.args))
