"""What a benchmark hands over: metrics with units, and the machine, versions and commit that they hold for."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.table import Table

from nire.install import checkout, processor

from .budgets import budgets
from .instructions import held_to

_PACKAGES = ("nire-live", "torch", "openvino", "numpy", "opencv-python-headless", "pyzmq", "iceoryx2")


@dataclass(frozen=True, slots=True)
class Result:
    """One measured value. `note` says under which conditions, in a few words; `each` what each of several runs gave."""

    metric: str
    value: float
    unit: str
    note: str = ""
    each: tuple[float, ...] = ()


def report(name: str, results: list[Result]) -> dict[str, Any]:
    """Put the results of one benchmark into the form that `--json` writes."""
    return {
        "name": name,
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | {name: _version_of(name) for name in _PACKAGES},
        "commit": _commit(),
        "results": [_row(result) for result in results],
    }


def show(name: str, results: list[Result], console: Console) -> None:
    """Print the results of one benchmark as a table."""
    table = Table("metric", "value", "unit", "budget", "conditions", title=name, title_justify="left")
    held = budgets()
    for result in results:
        table.add_row(
            result.metric,
            _shown(result.value),
            result.unit,
            str(held.get((name, result.metric), "")),
            result.note,
        )
    console.print(table)


def _shown(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"


def _row(result: Result) -> dict[str, Any]:
    row = asdict(result)
    if len(result.each) < 2:
        del row["each"]
    if math.isnan(result.value):
        row["value"] = None  # what was not measured; JSON knows no NaN
    return row


def _machine() -> dict[str, Any]:
    return {
        "cpu": processor() + held_to(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "load_before": os.getloadavg()[0],
    }


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    root = checkout()
    if root is None:  # a folder of packages may lie within somebody else's repository
        return f"v{_version_of('nire-live')}"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
