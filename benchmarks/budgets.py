"""Bounds of figures that hold on any machine (`budgets.toml`), and what exceeds them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("budgets.toml")


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds of one metric.

    Attributes:
        least, most: the bounds.
        slack: factor, >= 1, by which a noisy machine may miss them.
    """

    least: float = -math.inf
    most: float = math.inf
    slack: float = 1.0

    def allows(self, value: float) -> bool:
        """Tell whether a value is within the bounds, with slack."""
        return self.least / self.slack <= value <= self.most * self.slack

    def __str__(self) -> str:
        """Say the bounds as in a table."""
        bounds = ((">=", self.least), ("<=", self.most))
        return " and ".join(f"{sign} {value:,.4g}" for sign, value in bounds if math.isfinite(value))


@cache
def budgets(path: Path = _FILE) -> dict[tuple[str, str], Budget]:
    """Read the bounds: (benchmark, metric) -> budget.

    Raises:
        ValueError: a bound has an unknown key or no bound at all, or a slack below 1.
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    read: dict[tuple[str, str], Budget] = {}
    for bench, metrics in document.items():
        for metric, bound in metrics.items():
            unknown = set(bound) - {"min", "max", "slack"}
            if unknown or not {"min", "max"} & set(bound) or bound.get("slack", 1.0) < 1:
                raise ValueError(f"{path.name}: {bench}.{metric} is {bound}; give min or max, and slack from 1 on")
            read[bench, metric] = Budget(
                bound.get("min", -math.inf), bound.get("max", math.inf), bound.get("slack", 1.0)
            )
    return read


def exceeded(bench: str, figures: Mapping[str, float]) -> list[str]:
    """Name every figure of a benchmark that lies outside its budget: what was found, and what was expected."""
    held = budgets()
    return [
        f"{bench}: {metric} is {value:,.4g}, expected {budget}"
        for metric, value in figures.items()
        if (budget := held.get((bench, metric))) is not None and not budget.allows(value)
    ]
