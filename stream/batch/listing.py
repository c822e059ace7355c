"""Which recordings a batch is of: a folder, a glob, a manifest, or recordings by name."""

from __future__ import annotations

import glob
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from drivers.detect import is_recording
from nire.errors import ConfigError

_GLOB = re.compile(r"[*?\[]")
_LINE = re.compile(r"(?P<path>.*?)(?:\s+(?P<overrides>\{.*))?")
_ONLY_RECORDINGS = (".nire", ".aedat", ".aedat2", ".aedat4", ".raw", ".dat", ".bag", ".mcap")
"""Suffixes that nothing but recordings have: such a file that no driver knows is damaged."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """One recording of a batch.

    Attributes:
        recording: file or folder; whether it is there is found out by reading it.
        name: of its folder in the output folder, unlike all others of the batch.
        overrides: `section.key=value`, for this recording alone.
    """

    recording: Path
    name: str
    overrides: tuple[str, ...] = ()


def listed(places: Sequence[Path], *, beside: Path) -> list[Item]:
    """List the recordings of a batch.

    Args:
        places: each a folder of recordings, a glob, a manifest (a path a line, after it a JSON object of overrides if
            wanted), or a recording.
        beside: the output folder; it is no recording.

    Raises:
        ConfigError: there is no such place, no recording in it, or a manifest cannot be read.
    """
    items = [item for place in places for item in _of(place) if item.recording.resolve() != beside.resolve()]
    if not items:
        raise ConfigError(
            f"there are no recordings in {', '.join(map(str, places))}: expected a folder of them, a glob, or a "
            "manifest with a path a line"
        )
    return _named_apart(items)


def _of(place: Path) -> list[Item]:
    if place.is_dir():
        return _items([place] if is_recording(place) else _in_folder(place))
    if place.is_file():
        # What only recordings are called is one, however damaged.
        is_one = place.suffix.lower() in _ONLY_RECORDINGS or is_recording(place)
        return _items([place]) if is_one else list(_in_manifest(place))
    if _GLOB.search(str(place)):
        return _items([Path(path) for path in sorted(glob.glob(str(place), recursive=True))])
    raise ConfigError(f"there is no {place}: expected a folder of recordings, a glob, a manifest or a recording")


def _items(recordings: Sequence[Path]) -> list[Item]:
    return [Item(path, path.name if path.is_dir() else path.stem) for path in recordings]


def _in_folder(folder: Path) -> list[Path]:
    """List what a folder holds: all that a driver knows, and what has the suffix of a recording."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    known = {path for path in entries if is_recording(path)}
    suffixes = {*_ONLY_RECORDINGS, *(path.suffix.lower() for path in known if path.is_file() and path.suffix)}
    chosen = [path for path in entries if path in known or (path.is_file() and path.suffix.lower() in suffixes)]
    if passed_over := sorted(path.name for path in set(entries) - set(chosen)):
        _log.info("no recordings, passed over: %s", ", ".join(passed_over))
    return chosen


def _in_manifest(manifest: Path) -> Iterator[Item]:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{manifest} is neither a recording nor a manifest, a text with a path a line: {error}"
        ) from None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        assert match is not None  # it takes any line
        recording = _found(Path(match["path"]), manifest.parent)
        overrides = _overrides(match["overrides"], f"{manifest}, line {number}")
        yield replace(*_items([recording]), overrides=overrides)


def _found(path: Path, folder: Path) -> Path:
    """Find a path of a manifest: beside it, or where the command is called."""
    beside = folder / path.expanduser()
    return beside if beside.exists() or not path.exists() else path


def _overrides(text: str | None, where: str) -> tuple[str, ...]:
    if text is None:
        return ()
    try:
        return tuple(_assignments(json.loads(text)))
    except ValueError as error:
        raise ConfigError(
            f'{where}: {text!r} is no JSON object of overrides, such as {{"plan.rate_hz": 500}}: {error}'
        ) from None


def _assignments(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Flatten nested tables to assignments; a JSON value that is no table is a TOML value, too."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _assignments(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value, ensure_ascii=False)}"


def _named_apart(items: Sequence[Item]) -> list[Item]:
    """Give recordings of the same name others: with the suffix, with their folder, and at last with a number."""
    items = _renamed_where_taken(items, lambda item: item.recording.name)
    items = _renamed_where_taken(items, lambda item: f"{item.recording.resolve().parent.name}-{item.name}")
    taken: set[str] = set()
    named = []
    for item in items:
        names = (item.name if number == 1 else f"{item.name}-{number}" for number in count(1))
        named.append(replace(item, name=next(name for name in names if name not in taken)))
        taken.add(named[-1].name)
    return named


def _renamed_where_taken(items: Sequence[Item], other: Callable[[Item], str]) -> list[Item]:
    counts = Counter(item.name for item in items)
    return [replace(item, name=other(item)) if counts[item.name] > 1 else item for item in items]
