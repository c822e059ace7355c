"""The configuration of a stream: TOML in, a frozen model out. `stream/config_sections.py` has the keys."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import json
import os
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from nire.errors import ConfigError
from stream.config_advice import explained, nearest
from stream.config_sections import (
    ControlConfig,
    PlanConfig,
    PlanesConfig,
    PreviewConfig,
    PublishConfig,
    ReconstructorConfig,
    RingConfig,
    Section,
    SecurityConfig,
    SourceConfig,
    WindowConfig,
)

AUTO = "auto"
_ALL_HOSTS = {"*", "0.0.0.0", "[::]", ""}
DEFAULTS_VARIABLE = "NIRE_LIVE_DEFAULTS"
"""Variable of the environment: overrides, as a shell splits them, of the defaults of this machine or service."""


class NoTomlError(ConfigError):
    """A file that was named as a config is something else; `path` is the file."""

    def __init__(self, message: str, path: Path) -> None:
        """Keep the path."""
        super().__init__(message)
        self.path = path


class Config(Section):
    """One stream: from a source to its sockets."""

    source: SourceConfig = SourceConfig()
    ring: RingConfig = RingConfig()
    planes: PlanesConfig = PlanesConfig()
    window: WindowConfig = WindowConfig()
    plan: PlanConfig = PlanConfig()
    reconstructor: ReconstructorConfig = ReconstructorConfig()
    publish: PublishConfig = PublishConfig()
    control: ControlConfig = ControlConfig()
    preview: PreviewConfig = PreviewConfig()
    security: SecurityConfig = SecurityConfig()

    def digest(self) -> str:
        """Short fingerprint of all values, as published in `status`."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def stream_name(self) -> str:
        """Name of the rings: `source.name`, or the driver and the publishing port."""
        if self.source.name != "auto":
            return self.source.name
        address = "".join(c if c.isalnum() else "-" for c in self.publish.bind.rpartition(":")[2])
        return f"{self.source.driver.rpartition('.')[2]}-{address}"


def load_config(path: Path | str | None, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file, apply `section.key=value` overrides, check everything.

    Args:
        path: the file; None = defaults only.
        overrides: as given to `--set`; values are TOML, bare words are strings.

    Raises:
        ConfigError: as `read_config`, `check_addresses` and `check_security`.
    """
    config = read_config(path, overrides)
    check_addresses(config)
    check_security(config)
    return config


def read_config(path: Path | str | None, overrides: Iterable[str] = ()) -> Config:
    """Read a config as `load_config` does, without asking who could reach its sockets.

    The file lies over the defaults of the environment (`DEFAULTS_VARIABLE`), and the overrides over both.

    Args:
        path: the file; None = defaults only.
        overrides: as given to `--set`.

    Raises:
        ConfigError: no such file, no TOML, an unknown or an out-of-range key.
    """
    values: dict[str, Any] = {}
    where = "--set"
    for override in _own_defaults():
        _apply(values, override)
        where = f"{DEFAULTS_VARIABLE} or --set"
    if path is not None:
        where = str(path)
        try:
            with open(path, "rb") as file:
                values = _merged(values, tomllib.load(file))
        except OSError as error:
            raise ConfigError(
                f"cannot read the config {path}: {error.strerror}. `nire-live config` lists examples."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise NoTomlError(f"{path} is no TOML file: {error}", Path(path)) from error
    for override in overrides:
        _apply(values, override)
        where = f"{path} with --set" if path is not None else where
    return _validate(Config, values, where)


def keys_stated(path: Path | str, overrides: Iterable[str] = ()) -> set[str]:
    """Tell which keys a file and `--set` give, each as `section.key`: not what is left to the defaults.

    Args:
        path: of a file that `read_config` has read.
        overrides: as given to `--set`.
    """
    with open(path, "rb") as file:
        stated = tomllib.load(file)
    for override in overrides:
        _apply(stated, override)
    return {f"{section}.{key}" for section, keys in stated.items() for key in keys}


def updated(section: Section, changes: Mapping[str, Any]) -> Any:
    """Copy a section with some keys changed, checked like a file's.

    Raises:
        ConfigError: an unknown or an out-of-range key.
    """
    return _validate(type(section), section.model_dump() | dict(changes), type(section).__name__)


def changed(config: Config, changes: Mapping[str, Mapping[str, Any]]) -> Config:
    """Copy a config with some keys changed, checked like a file's; what was not set before stays not set.

    Args:
        config: as loaded.
        changes: by section, then by key.

    Raises:
        ConfigError: an unknown or an out-of-range key.
    """
    values = config.model_dump(exclude_unset=True)
    for section, keys in changes.items():
        values[section] = values.get(section, {}) | dict(keys)
    result: Config = _validate(Config, values, "settings")
    return result


def with_settings(config: Config, settings: Mapping[str, Any], sections: Sequence[str]) -> Config:
    """Change keys that are given without their section, as the library takes them.

    Args:
        config: as loaded.
        settings: keys of the sections but `name`; a backend "auto" leaves the choice to the config.
        sections: whose keys may be given; no two of them have a key in common.

    Raises:
        ConfigError: an unknown or an out-of-range key; the nearest is named.
    """
    places = {key: section for section in sections for key in type(getattr(config, section)).model_fields}
    changes: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        if key not in places or key == "name":
            raise ConfigError(
                f"there is no setting {key!r}; {nearest(key, [name for name in places if name != 'name'])}"
            )
        if (key, value) != ("backend", AUTO):
            changes.setdefault(places[key], {})[key] = value
    return changed(config, changes)


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is TOML, anything else a string.

    Raises:
        ConfigError: there is no `=`.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{text!r} is no KEY=VALUE, for example plan.rate_hz=800")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def check_addresses(config: Config) -> None:
    """Refuse two sockets on one address.

    Raises:
        ConfigError: it names both keys, a line for each pair.
    """
    addresses = {key: getattr(config, key).bind for key in ("publish", "control", "preview")}
    faults = [
        f"{one}.bind = {addresses[one]!r} and {other}.bind = {addresses[other]!r} are one address, and each socket "
        "needs its own: choose another port for one of them"
        for one, other in itertools.combinations(addresses, 2)
        if _are_one(addresses[one], addresses[other])
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def check_security(config: Config) -> None:
    """Refuse a bind beyond loopback without keys.

    Raises:
        ConfigError: it names the addresses, a line each, and the two keys that are missing.
    """
    security = config.security
    if bool(security.server_key) != bool(security.authorized_keys):
        raise ConfigError("security.server_key and security.authorized_keys go together: set both, or none")
    if security.server_key:
        return
    faults = [
        f"{key} = {address!r} can be reached from other machines and no keys are set. Bind to 127.0.0.1, or run "
        "'nire-live keys new server' and set security.server_key and security.authorized_keys"
        for key, address in (("publish.bind", config.publish.bind), ("control.bind", config.control.bind))
        if not is_loopback(address)
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def is_loopback(address: str) -> bool:
    """Tell whether a ZMQ or host:port address can only be reached from this machine."""
    transport, separator, rest = address.rpartition("://")
    if separator and transport in ("ipc", "inproc"):
        return True
    host = rest.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _are_one(address: str, other: str) -> bool:
    """Tell whether two addresses cannot be bound together; a port of 0 or * is any free one."""
    if "://" in address and not address.startswith("tcp://"):
        return address == other
    (host, _, port), (other_host, _, other_port) = (
        text.removeprefix("tcp://").rpartition(":") for text in (address, other)
    )
    if not (port.isdecimal() and other_port.isdecimal() and int(port) == int(other_port) != 0):
        return False
    hosts = {"127.0.0.1" if each == "localhost" else each for each in (host, other_host)}
    return len(hosts) == 1 or bool(hosts & _ALL_HOSTS)


def _own_defaults() -> list[str]:
    text = os.environ.get(DEFAULTS_VARIABLE, "")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(
            f"{DEFAULTS_VARIABLE} = {text!r}: {error}; expected KEY=VALUE, with spaces between"
        ) from error


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another, section by section."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _apply(values: dict[str, Any], override: str) -> None:
    key, value = parse_assignment(override)
    *path, last = key.split(".")
    table = values
    for name in path:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {name} is a value, not a section")
    table[last] = value


def _validate(model: type[BaseModel], values: dict[str, Any], where: str) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(explained(model, error, where))) from None
