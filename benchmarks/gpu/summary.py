"""What the steps have found, as a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_FIRST = ("case", "way", "queries")


def summary(found: Sequence[dict[str, Any]]) -> str:
    """Lay results out as Markdown: a table for each step, and what was skipped, stopped or failed below it.

    Args:
        found: results in their order, each with `step`.
    """
    steps = dict.fromkeys(result["step"] for result in found)
    return "\n".join(_told(step, [result for result in found if result["step"] == step]) for step in steps)


def _told(step: str, found: Sequence[dict[str, Any]]) -> str:
    measured = [result for result in found if not _trouble(result)]
    lines = [f"## {step}", ""]
    # A table for each kind of result: those that have the same values.
    for columns in dict.fromkeys(_columns(result) for result in measured):
        rows = [result for result in measured if _columns(result) == columns]
        lines += [_row(columns), _row(["---"] * len(columns))]
        lines += [*(_row([_value(row[column]) for column in columns]) for row in rows), ""]
    for result in found:
        if trouble := _trouble(result):
            where = " ".join(str(result[key]) for key in _FIRST if key in result)
            lines += [f"- {where + ': ' if where else ''}{trouble}: {result[trouble]}"]
    return "\n".join([*lines, ""])


def _columns(result: dict[str, Any]) -> tuple[str, ...]:
    return tuple(sorted((key for key in result if key != "step"), key=lambda key: (key not in _FIRST, 0)))


def _trouble(result: dict[str, Any]) -> str:
    return next((kind for kind in ("failed", "stopped", "skipped") if kind in result), "")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value).replace("|", "/").replace("\n", " ")
