"""A driver's settings: names, types, what a person is told, and that the page on cameras names every one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pytest

from drivers.cameras.davis346 import DavisSettings
from drivers.cameras.dv_network import NetworkSettings
from drivers.cameras.metavision import MetavisionSettings
from drivers.cameras.neuromorphic import NeuromorphicSettings
from drivers.settings import checked, require_range
from nire.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "cameras.md"


@dataclass(frozen=True, slots=True)
class _Example:
    count: int = 1
    seconds: float = 2.0
    mode: Literal["fast", "slow"] = "fast"
    exposure: int | Literal["auto"] = "auto"
    sizes: list[int] = field(default_factory=list)
    biases: Mapping[str, Any] = field(default_factory=dict)
    running: bool = True


def test_good_values_are_taken_and_a_whole_number_is_a_number() -> None:
    made = checked(_Example, "it", {"count": 3, "seconds": 4, "exposure": 5, "sizes": [1], "biases": {"a": 1}})
    assert made == _Example(3, 4.0, exposure=5, sizes=[1], biases={"a": 1})
    assert isinstance(made.seconds, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 1}, "the driver 'it' has no setting 'cuont'; did you mean 'count'"),
        ({"zzz": 1}, "it has count, seconds, mode"),
        ({"count": 1.5}, "it: count = 1.5, expected a whole number"),
        ({"count": True}, "expected a whole number"),
        ({"seconds": "2"}, "expected a number"),
        ({"mode": "medium"}, "expected one of 'fast', 'slow'"),
        ({"exposure": "manual"}, "expected a whole number or 'auto'"),
        ({"sizes": 3}, "expected a list"),
        ({"biases": [1]}, "expected a table of names and values"),
        ({"running": 1}, "expected true or false"),
    ],
)
def test_wrong_values_are_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(_Example, "it", values)


def test_range_is_told_with_its_unit() -> None:
    require_range("it", "gap_us", 5, 5, 5)
    with pytest.raises(ConfigError, match="it: gap_us = 6 us, expected 0 to 5"):
        require_range("it", "gap_us", 6, 0, 5)


@pytest.mark.parametrize("kind", [DavisSettings, NetworkSettings, MetavisionSettings, NeuromorphicSettings])
def test_page_on_cameras_names_every_setting(kind: type[Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [item.name for item in fields(kind) if f"`{item.name}`" not in page and f"\n{item.name} = " not in page]
    assert not missing
