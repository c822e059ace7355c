"""Measure this machine."""

from __future__ import annotations

import typer

from nire.errors import ConfigError
from stream.options import leave

# The options belong to whom the words are passed on to, `--help` too.
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def command(context: typer.Context) -> None:
    """Measure this machine: planes, ring, edi, network, wire, end_to_end, soak. See bench --help."""
    try:
        from benchmarks.__main__ import main as measure
    except ImportError as error:
        raise ConfigError(f"the benchmarks cannot be imported ({error}); run this from a source checkout") from error
    leave(measure(context.args))
