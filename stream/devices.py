"""What could be a source on this machine: the drivers that exist, and what each lacks."""

from __future__ import annotations

import importlib
from types import ModuleType

from rich.console import Console
from rich.table import Table

from drivers.detect import driver_names


def show(console: Console) -> None:
    """Print a table of drivers, their purpose and the state of their SDK."""
    table = Table("driver", "what it is", "state", title="drivers", title_justify="left")
    for name in driver_names():
        try:
            module = importlib.import_module(f"drivers.{name}")
        except ImportError as error:
            table.add_row(name, "", f"cannot be imported: {error}")
            continue
        purpose = (module.__doc__ or "").splitlines()[0].rstrip(".")
        table.add_row(name, purpose, _state(module))
    console.print(table)
    console.print("Drivers for live cameras (DAVIS346, Prophesee, DV streams) are not part of this version.")


def _state(module: ModuleType) -> str:
    """Ask the driver what it lacks: `missing_sdk() -> str`, "" when nothing; a driver without it needs nothing."""
    missing = module.missing_sdk() if hasattr(module, "missing_sdk") else ""
    return f"missing: {missing}" if missing else "ready"
