"""A driver's settings: names, types, what a person is told, and that the page on cameras names every one."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from drivers.cameras.davis346 import DavisSettings
from drivers.cameras.dv_network import NetworkSettings
from drivers.cameras.metavision import MetavisionSettings
from drivers.cameras.neuromorphic import NeuromorphicSettings
from drivers.detect import check_driver, open_driver, recording_names
from drivers.settings import called, checked, checked_size, require_range, require_settings
from nire.errors import ConfigError

SIZED = ("aedat", "arrays", "hdf5", "metavision_hdf5", "prophesee_dat", "prophesee_raw", "text")
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
        ({"sizes": 3}, "expected a list, each a whole number"),
        ({"sizes": [1, "2"]}, "expected a list, each a whole number"),
        ({"biases": [1]}, "expected a table of names and values"),
        ({"seconds": math.nan}, "expected a number"),
        ({"seconds": 10**400}, "expected a number"),
        ({"running": 1}, "expected true or false"),
    ],
)
def test_wrong_values_are_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(_Example, "it", values)


def _open_something(
    path: str | Path,
    *,
    count: int = 1,
    seconds: float | None = None,
    colour: bool = True,
    sensor: Mapping[str, float] | None = None,
    unknown: Any = None,
) -> dict[str, Any]:
    return {"path": path, "count": count, "seconds": seconds, "colour": colour, "sensor": sensor, "unknown": unknown}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cuont": 1}, "it has no setting 'cuont'; did you mean 'count'"),
        ({"count": "abc"}, "it: count = 'abc', expected a whole number$"),
        ({"count": 1.0}, "it: count = 1.0, expected a whole number$"),
        ({"seconds": "abc"}, "it: seconds = 'abc', expected a number$"),
        ({"seconds": True}, "it: seconds = True, expected a number$"),
        ({"colour": "no"}, "it: colour = 'no', expected true or false$"),
        ({"sensor": {"leak_hz": "much"}}, "expected a table of names and values, each a number$"),
        ({"path": 5}, "it: path = 5, expected a text$"),
        ({}, "it needs path: set it in place"),
    ],
)
def test_function_is_not_called_with_what_it_does_not_take(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        called(_open_something, settings, owner="it", place="place")


def test_function_is_called_with_what_it_takes_as_it_is() -> None:
    settings = {"path": Path("a"), "count": np.int64(3), "seconds": np.float32(2), "unknown": [1]}
    assert called(_open_something, settings, owner="it", place="place") | settings == called(
        _open_something, settings, owner="it", place="place"
    )


def test_function_whose_types_are_not_there_is_called_all_the_same() -> None:
    def strange(count: Nowhere) -> int:  # type: ignore[name-defined]  # noqa: F821
        return int(count)

    assert called(strange, {"count": "5"}, owner="it", place="place") == 5


@pytest.mark.parametrize("name", recording_names())
def test_every_setting_of_every_recording_has_a_type_that_is_checked(name: str) -> None:
    function = importlib.import_module(f"drivers.recordings.{name}").open_source
    check_driver(name)  # opens nothing
    for setting in inspect.signature(function).parameters:
        with pytest.raises(ConfigError, match=f"'{name}': {setting} = "):
            require_settings(function, {setting: object()}, owner=f"the driver {name!r}")


@pytest.mark.parametrize(
    ("driver", "settings", "message"),
    [
        ("video", {"seed": -1}, "video: seed = -1, expected 0 or more"),
        ("hdf5", {"sort_us": -2}, "hdf5: sort_us = -2, expected microseconds"),
        ("text", {"sort_us": -2}, "text: sort_us = -2, expected microseconds"),
        *((driver, {"width": -5, "height": -5}, f"{driver}: width = -5, height = -5: set both") for driver in SIZED),
        *((driver, {"width": 64}, f"{driver}: width = 64, height = 0: set both") for driver in SIZED),
    ],
)
def test_number_that_can_be_none_is_refused(driver: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_driver(driver, path="x", **settings)
    with pytest.raises(ConfigError, match=message):
        check_driver(driver, **settings)


def test_size_is_both_or_none() -> None:
    assert checked_size("it", 0, 0) is None
    assert checked_size("it", 64, 48) == (64, 48)


def test_setting_may_be_called_as_an_argument_of_ours() -> None:
    with pytest.raises(ConfigError, match="'npz' has no setting 'name'"):
        open_driver("npz", path="x", name="y")


def test_range_is_told_with_its_unit() -> None:
    require_range("it", "gap_us", 5, 5, 5)
    with pytest.raises(ConfigError, match="it: gap_us = 6 us, expected 0 to 5"):
        require_range("it", "gap_us", 6, 0, 5)


@pytest.mark.parametrize("kind", [DavisSettings, NetworkSettings, MetavisionSettings, NeuromorphicSettings])
def test_page_on_cameras_names_every_setting(kind: type[Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [item.name for item in fields(kind) if f"`{item.name}`" not in page and f"\n{item.name} = " not in page]
    assert not missing
