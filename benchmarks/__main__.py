"""`nire-live bench [NAME...]`: run benchmarks, print tables, write JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from .budgets import exceeded
from .instructions import CHOICES, hold_to
from .report import report, show

NAMES = ("planes", "ring", "recordings", "intake", "edi", "explicit", "network", "wire", "end_to_end")
"""Run when no name is given."""
NAMED = ("batch", "hd", "others", "page", "soak", "storm")
"""Take minutes, and run only when named."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments name and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="nire-live bench",
        description="Measure this machine; leave it quiet meanwhile.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(NAMES)} (all of these when none is named), {', '.join(NAMED)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write machine, versions and results as JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure misses its budget (budgets.toml)")
    parser.add_argument("--minutes", type=float, default=5.0, help="length of soak (default 5)")
    parser.add_argument("--runs", type=int, default=1, help="ring: so many runs of each carrier (default 1)")
    parser.add_argument("--kills", type=int, default=300, help="processes that storm kills (default 300)")
    parser.add_argument(
        "--recording",
        type=Path,
        help="end_to_end, page, soak: loop this, not the synthetic camera; intake: serve its events; others: on this",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="end_to_end, hd, page, soak, storm: override a key, e.g. reconstructor.threads=1; may be repeated",
    )
    parser.add_argument(
        "--engine",
        action="append",
        metavar="NAME",
        help="network: also run nano by this engine; may be repeated (default: all that start in seconds)",
    )
    parser.add_argument(
        "--instructions",
        choices=CHOICES,
        help="hold everything to these, as on a processor that has no more (default: all that this one has)",
    )
    options = parser.parse_args(arguments)
    if options.instructions is not None:
        hold_to(options.instructions)
    unknown = [name for name in options.names if name not in (*NAMES, *NAMED)]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join((*NAMES, *NAMED))}")
    reports, missed = [], []
    for name in options.names or NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        module = importlib.import_module(f"{__package__}.{name}")
        settings: dict[str, dict[str, Any]] = {
            "ring": {"runs": options.runs},
            "soak": {"minutes": options.minutes, "recording": options.recording, "overrides": options.overrides},
            "storm": {"kills": options.kills, "overrides": options.overrides},
            "end_to_end": {"recording": options.recording, "overrides": options.overrides},
            "hd": {"overrides": options.overrides},
            "page": {"recording": options.recording, "overrides": options.overrides},
            "intake": {"recording": options.recording},
            "others": {"recording": options.recording},
            "network": {"engines": tuple(options.engine) if options.engine else None},
        }
        results = module.run(**settings.get(name, {}))
        show(name, results, Console())
        reports.append(report(name, results))
        missed += exceeded(name, {result.metric: result.value for result in results})
    if options.json is not None:
        whole = reports[0] if len(reports) == 1 else {"benches": reports}
        options.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    for line in missed:
        print(f"over budget: {line}", file=sys.stderr)
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
