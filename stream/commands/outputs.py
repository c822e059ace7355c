"""List the outputs, and what each lacks here."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream.outputs import lacks, output_module, output_names


def command() -> None:
    """List the outputs that a run over a recording can make, and what each lacks here."""
    table = Table("output", "what it is", "state", title="nire-live offline ... --output NAME", title_justify="left")
    for name in output_names():
        module = output_module(name)
        missing = lacks(module)
        described = (module.__doc__ or "").splitlines()[0].rstrip(".")
        table.add_row(name, Text(described), Text(f"missing: {missing}" if missing else "ready"))
    Console().print(table)
