"""List the outputs, and what each lacks here."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream.outputs import lacks, output_module, output_names


def command() -> None:
    """List the outputs of a run over a recording and of a running stream, and what each lacks here."""
    table = Table("output", "what it is", "command", "state")
    for name in output_names():
        module = output_module(name)
        missing = lacks(module)
        described = (module.__doc__ or "").splitlines()[0].rstrip(".")
        how = f"offline ... --output {name}" if hasattr(module, "create") else f"send {name}"
        table.add_row(name, Text(described), how, Text(f"missing: {missing}" if missing else "ready"))
    Console().print(table)
