"""Fill a vendor's own configuration dataclass, in depth, from the values of a config file."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from nire.errors import ConfigError


def filled(module: Any, values: Mapping[str, Any], *, driver: str) -> Any:
    """Make the configuration of a kind of device.

    Args:
        module: of neuromorphic-drivers for that kind: it has `Configuration`, and `RateLimiter` where there is one.
        values: by the package's own names, tables in tables; members of an enumeration by their name.
        driver: ours, for the messages.

    Raises:
        ConfigError: a name that it does not have, or a value that does not fit.
    """
    configuration = _replaced(module.Configuration(), values, module, f"{driver}: configuration")
    try:
        configuration.serialize()
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ConfigError(f"{driver}: a value in configuration does not fit its field: {error}") from error
    return configuration


def _replaced(whole: Any, values: Mapping[str, Any], module: Any, path: str) -> Any:
    names = [item.name for item in fields(whole)]
    changes = {}
    for name, value in values.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
            raise ConfigError(f"{path} has no {name!r}; {hint}")
        changes[name] = _converted(getattr(whole, name), value, module, f"{path}.{name}")
    return replace(whole, **changes)


def _converted(now: Any, value: Any, module: Any, path: str) -> Any:
    """Turn a value of a config file into what the SDK has in its place."""
    if is_dataclass(now) and isinstance(value, Mapping):
        return _replaced(now, value, module, path)
    if isinstance(now, enum.Enum):
        if value not in type(now).__members__:
            raise ConfigError(f"{path} = {value!r}, expected one of {', '.join(type(now).__members__)}")
        return type(now)[value]
    if now is None and isinstance(value, Mapping):  # the rate limiter, off by default
        try:
            return module.RateLimiter(**value)
        except TypeError as error:
            raise ConfigError(f"{path}: {error}") from error
    if isinstance(now, tuple) and isinstance(value, list) and len(value) == len(now):
        return tuple(value)
    if type(value) is not type(now):
        raise ConfigError(f"{path} = {value!r}, expected a value like {now!r}")
    return value
