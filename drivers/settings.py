"""Check settings against what takes them, a driver's dataclass or a function; most ranges it checks itself."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar

from nire.errors import ConfigError

_T = TypeVar("_T")
LARGEST_PX = 1 << 14
"""Width and height that no sensor exceeds."""


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
    _require_names(values, names, owner=f"the driver {driver!r}")
    _require_types(values, hints, owner=driver)
    return kind(**{name: float(value) if hints[name] is float else value for name, value in values.items()})


def called(function: Callable[..., Any], settings: Mapping[str, Any], *, owner: str, place: str) -> Any:
    """Call what opens a source or a camera by keyword; a wrong setting is the config's error, not a traceback.

    Args:
        function: as for `require_settings`.
        settings: to call it with.
        owner: for the message: "the driver 'npz'".
        place: where settings are set, for the message.

    Raises:
        ConfigError: as `require_settings`, or one that it needs is missing.
    """
    require_settings(function, settings, owner=owner)
    parameters = inspect.signature(function).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if missing := [name for name in needed if name not in settings]:
        raise ConfigError(f"{owner} needs {', '.join(missing)}: set it in {place}")
    return function(**settings)


def require_settings(function: Callable[..., Any], settings: Mapping[str, Any], *, owner: str) -> None:
    """Check settings against the parameters of what takes them, without calling it.

    Args:
        function: takes settings as keywords; one that takes any keyword checks those itself.
        settings: by name; some may be missing.
        owner: for the message: "the driver 'npz'".

    Raises:
        ConfigError: a setting that it does not have, or a value of another type than it names.
    """
    parameters = inspect.signature(function).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        _require_names(settings, parameters, owner=owner)
    _require_types(settings, _hints_of(function), owner=owner)


def require_range(driver: str, name: str, value: float, low: float, high: float, unit: str = "us") -> None:
    """Check a number.

    Raises:
        ConfigError: it is not in [low, high].
    """
    if not low <= value <= high:
        raise ConfigError(f"{driver}: {name} = {value:.10g} {unit}, expected {low:.10g} to {high:.10g}")


def checked_size(driver: str, width: int, height: int) -> tuple[int, int] | None:
    """Check what a user sets of the size of a sensor, pixels; None where nothing is, 0 and 0.

    Raises:
        ConfigError: only one is set, or one cannot be a sensor's.
    """
    if width == height == 0:
        return None
    if not (0 < width <= LARGEST_PX and 0 < height <= LARGEST_PX):
        raise ConfigError(
            f"{driver}: width = {width}, height = {height}: set both, in pixels up to {LARGEST_PX}, or neither"
        )
    return width, height


def _require_names(settings: Iterable[str], known: Iterable[str], *, owner: str) -> None:
    names = list(known)
    for name in settings:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names) or 'none'}"
            raise ConfigError(f"{owner} has no setting {name!r}; {hint}")


def _require_types(settings: Mapping[str, Any], hints: Mapping[str, Any], *, owner: str) -> None:
    for name, value in settings.items():
        if name in hints and not _fits(value, hints[name]):
            raise ConfigError(f"{owner}: {name} = {value!r}, expected {_described(hints[name])}")


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Types of the parameters that a setting can be given for; none where somebody else's code names what is not there.

    `**settings` is left out: its type is that of each of them.
    """
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}
    parameters = inspect.signature(function).parameters.values()
    return {p.name: hints[p.name] for p in parameters if p.name in hints and p.kind is not p.VAR_KEYWORD}


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of a type; of one that no config can write it is."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in arguments)
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return isinstance(value, Mapping) and all(_fits(item, arguments[1]) for item in value.values() if arguments)
    if kind is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value if arguments)
    return kind not in _FITS or _FITS[kind](value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    """A path that the library is given is as good as its text."""
    return isinstance(value, str | os.PathLike)


_FITS: Mapping[Any, Callable[[Any], bool]] = {
    int: _is_whole,
    float: _is_number,
    bool: lambda value: isinstance(value, bool),
    str: _is_text,
    Path: _is_text,
    type(None): lambda value: value is None,
}


def _described(hint: Any) -> str:
    """Say what a type hint asks for: "a whole number", "one of 'auto', 'gray'", joined by "or"."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        words = [repr(word) for word in typing.get_args(hint)]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if origin in (typing.Union, types.UnionType):
        choices = [choice for choice in typing.get_args(hint) if choice is not type(None)]  # no config can write it
        return " or ".join(dict.fromkeys(_described(choice) for choice in choices))
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is list:
        return f"a list{_of_each(typing.get_args(hint)[0])}"
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return f"a table of names and values{_of_each(*typing.get_args(hint)[1:])}"
    return str(hint)


def _of_each(hint: Any = Any) -> str:
    return f", each {_WORDS[hint]}" if hint in _WORDS else ""


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a text"}
