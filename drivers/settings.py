"""Check settings against what takes them, a driver's dataclass or a function; ranges are for that itself to check."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar

from nire.errors import ConfigError

_T = TypeVar("_T")


def checked(kind: type[_T], driver: str, values: Mapping[str, Any]) -> _T:
    """Make a driver's settings from what a config or a `set-source` says.

    Args:
        kind: a dataclass whose fields are `int`, `float`, `bool`, `str`, `Literal`, mappings, lists or unions of them.
        driver: its name, for the messages.
        values: by name of the field.

    Raises:
        ConfigError: a name that it does not have, or a value of another type; ranges as `kind` itself says.
    """
    hints = typing.get_type_hints(kind)
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    good = {}
    for name, value in values.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
            raise ConfigError(f"the driver {driver!r} has no setting {name!r}; {hint}")
        if not _fits(value, hints[name]):
            raise ConfigError(f"{driver}: {name} = {value!r}, expected {_described(hints[name])}")
        good[name] = float(value) if hints[name] is float else value
    return kind(**good)


def require_range(driver: str, name: str, value: float, low: float, high: float, unit: str = "us") -> None:
    """Check a number.

    Raises:
        ConfigError: it is not in [low, high].
    """
    if not low <= value <= high:
        raise ConfigError(f"{driver}: {name} = {value:.10g} {unit}, expected {low:.10g} to {high:.10g}")


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in typing.get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _described(hint: Any) -> str:
    """Say what a type hint asks for: "a whole number", "one of 'auto', 'gray'", joined by "or"."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        words = [repr(word) for word in typing.get_args(hint)]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_described(choice) for choice in typing.get_args(hint))
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is list:
        return "a list"
    return "a table of names and values" if isinstance(origin, type) and issubclass(origin, Mapping) else str(hint)


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "nothing"}


def called(function: Callable[..., Any], settings: Mapping[str, Any], *, owner: str, place: str) -> Any:
    """Call what opens a source or a camera by keyword; a wrong name is the config's error, not a traceback.

    Args:
        function: takes settings as keywords; one that takes any keyword checks them itself.
        settings: to call it with.
        owner: for the message: "the driver 'npz'".
        place: where settings are set, for the message.

    Raises:
        ConfigError: a setting that it does not have, or one that it needs is missing.
    """
    parameters = inspect.signature(function).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        for key in settings:
            if key not in parameters:
                near = difflib.get_close_matches(key, list(parameters), n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(parameters) or 'none'}"
                raise ConfigError(f"{owner} has no setting {key!r}; {hint}")
        missing = [k for k, p in parameters.items() if p.default is inspect.Parameter.empty and k not in settings]
        if missing:
            raise ConfigError(f"{owner} needs {', '.join(missing)}: set it in {place}")
    return function(**settings)
