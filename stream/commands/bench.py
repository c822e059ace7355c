"""Measure this machine."""

from __future__ import annotations

import importlib
import importlib.util

import typer

from nire.errors import ConfigError
from stream.options import leave

# The options belong to whom the words are passed on to, `--help` too.
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_INSTALLED, _IN_A_CHECKOUT = "stream._benchmarks", "benchmarks"  # one folder: see pyproject.toml, package-dir


def command(context: typer.Context) -> None:
    """Measure this machine: planes, ring, edi, network, wire, end_to_end, page, soak and more. See bench --help."""
    package = _INSTALLED if importlib.util.find_spec(_INSTALLED) else _IN_A_CHECKOUT
    try:
        main = importlib.import_module(f"{package}.__main__").main
    except ImportError as error:
        raise ConfigError(f"the benchmarks cannot be imported ({error}); run it from the top of a checkout") from error
    leave(main(context.args))
