"""Arguments of commands whose config may be left out: told apart by the suffix .toml, and by their number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nire.errors import ConfigError

_WORDS = {"OUT": "output folder"}


def without_config(command: str, words: Sequence[Path], names: Sequence[str]) -> tuple[Path | None, list[Path]]:
    """Split `[CONFIG] NAMES...` into the config, None where it is left out, and the rest.

    Args:
        command: its name, for the messages.
        words: as typed.
        names: of the arguments after the config, in capitals.

    Raises:
        ConfigError: one is missing or too many, or the config does not come first.
    """
    usage = f"nire-live {command} [CONFIG] {' '.join(names)}"
    if len(words) > len(names) + 1:
        raise ConfigError(f"'{words[-1]}' is one argument too many: {usage}")
    later = [word for word in words[1:] if _is_config(word)]
    if later and not _is_config(words[0]):
        others = " ".join(str(word) for word in words if word != later[0])
        raise ConfigError(f"the config comes first: nire-live {command} {later[0]} {others}")
    has_config = bool(words) and (_is_config(words[0]) or len(words) > len(names))
    rest = list(words[1:] if has_config else words)
    if len(rest) < len(names):
        missing = _WORDS.get(names[len(rest)], names[len(rest)].lower())
        after = f" after {words[-1]}" if words else ""
        raise ConfigError(f"the {missing.lower()} is missing{after}: {usage}")
    return (words[0] if has_config else None), rest


def _is_config(word: Path) -> bool:
    return word.suffix.lower() == ".toml"
