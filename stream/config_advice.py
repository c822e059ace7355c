"""What is wrong with a config, in words: the key, what it takes, or the nearest key that there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

_SAID_BY_DESCRIPTION = ("string_pattern_mismatch", "literal_error")


def explained(model: type[BaseModel], error: ValidationError, where: str) -> list[str]:
    """Say what pydantic found, in the terms of the file.

    Args:
        model: that was filled.
        error: what came of it.
        where: file, or option, that the values came from.

    Returns:
        A line for each fault.
    """
    # A key that takes one of two kinds of values gets a fault for each kind: they read the same here.
    return list(dict.fromkeys(_explain(model, item, where) for item in error.errors()))


def nearest(key: str, keys: Sequence[str]) -> str:
    """Say which key may have been meant, or which there are."""
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(keys)}"


def _explain(model: type[BaseModel], item: Mapping[str, Any], where: str) -> str:
    path = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        path = _inside(model, path, item["input"])
        return f"{where}: unknown key {'.'.join(path)!r}; {_nearest(model, path)}"
    dotted, description = _known(model, path)
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] in ("model_type", "dict_type"):
        message = f"a section [{dotted}] is expected"
    elif dotted != ".".join(path) or (item["type"] in _SAID_BY_DESCRIPTION and "input should be" not in message):
        message = f"expected is {description}"
    value = item["input"] if dotted == ".".join(path) or not isinstance(item["input"], dict) else "..."
    return f"{where}: {dotted} = {value!r}: {message[0].lower()}{message[1:]}"


def _known(model: type[BaseModel], path: Sequence[str]) -> tuple[str, str]:
    """The part of a path that names a key, without what pydantic adds for kinds of values; and the description."""
    known = dict(_keys(model))
    for stop in range(len(path), 0, -1):
        dotted = ".".join(path[:stop])
        if dotted in known:
            return dotted, known[dotted]
    return ".".join(path), ""


def _inside(model: type[BaseModel], path: list[str], value: Any) -> list[str]:
    """Go into a section that there is not, and that is no misspelt one, as far as its first key."""
    if not isinstance(value, Mapping) or difflib.get_close_matches(path[-1], list(model.model_fields), n=1, cutoff=0.5):
        return path
    return [*path, *(str(key) for key in list(value)[:1])]


def _nearest(model: type[BaseModel], path: Sequence[str]) -> str:
    everything = [key for key, description in _keys(model) if description or len(path) == 1]
    *section, leaf = path
    siblings = [key.rpartition(".")[2] for key in everything if key.split(".")[:-1] == section]
    if near := difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.5):
        return f"did you mean {'.'.join([*section, near[0]])!r}?"
    leaves = {key.rpartition(".")[2]: key for key in everything}
    if near := difflib.get_close_matches(leaf, list(leaves), n=1, cutoff=0.6):
        return f"did you mean {leaves[near[0]]!r}?"
    return f"there are {', '.join(siblings or model.model_fields)}"


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """All keys with their descriptions; sections have none."""
    for name, info in model.model_fields.items():
        yield prefix + name, info.description or ""
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _keys(info.annotation, f"{prefix}{name}.")
