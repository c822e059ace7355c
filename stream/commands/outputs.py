"""List the outputs, and what each lacks here."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream.outputs import lacks, output_module, output_names

_KINDS = {"create": "nire-live offline ... --output NAME", "follow": "nire-live send NAME, beside a running stream"}


def command() -> None:
    """List the outputs of a run over a recording and of a running stream, and what each lacks here."""
    modules = {name: output_module(name) for name in output_names()}
    for kind, how in _KINDS.items():
        table = Table("output", "what it is", "state", title=how, title_justify="left")
        for name, module in modules.items():
            if hasattr(module, kind):
                missing = lacks(module)
                described = (module.__doc__ or "").splitlines()[0].rstrip(".")
                table.add_row(name, Text(described), Text(f"missing: {missing}" if missing else "ready"))
        Console().print(table)
