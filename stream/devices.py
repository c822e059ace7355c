"""What could be a source on this machine: the drivers that exist, and what each lacks."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.table import Table

from drivers.detect import driver_names

SDKS = {"aedat4": ("dv_processing", "dv-processing")}
"""Drivers that stand on a vendor's package: import name and package name."""


def show(console: Console) -> None:
    """Print a table of drivers, their purpose and the state of their SDK."""
    table = Table("driver", "what it is", "needs", "state", title="drivers", title_justify="left")
    for name in driver_names():
        module = importlib.import_module(f"drivers.{name}")
        purpose = (module.__doc__ or "").splitlines()[0].rstrip(".")
        table.add_row(name, purpose, *_sdk_state(name))
    console.print(table)
    console.print("Drivers for live cameras (DAVIS346, Prophesee, DV streams) are not part of this version.")


def _sdk_state(name: str) -> tuple[str, str]:
    if name not in SDKS:
        return "nothing", "ready"
    module, package = SDKS[name]
    try:
        importlib.import_module(module)
        return package, f"ready ({version(package)})"
    except (ImportError, PackageNotFoundError):
        return package, f"missing: pip install {package}"
