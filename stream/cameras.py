"""Several cameras on one machine: their names, and what their configurations must agree on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nire.errors import ConfigError, NireError
from stream.config import AUTO, Config, changed, check_addresses, check_security, keys_stated, read_config
from stream.config_sections import CAMERA_NAME
from stream.sources import check_settings

OF_THE_MACHINE = (
    "publish.bind",
    "publish.high_water_mark",
    "control.bind",
    "preview.bind",
    "preview.fps",
    "security.server_key",
    "security.authorized_keys",
    "reconstructor.device",
    "reconstructor.engine",
    "reconstructor.threads",
    "reconstructor.spares",
)
"""Keys that hold for all cameras: there is one socket, one page and one device for them."""


def load_cameras(paths: Sequence[Path], overrides: Iterable[str] = ()) -> tuple[Config, ...]:
    """Read the configuration of each camera, and check them together; of one alone as `load_config` does.

    Args:
        paths: TOML files, a camera each.
        overrides: as given to `--set`, for all of them.

    Returns:
        Of several, `source.name` is the camera's name, and the keys `OF_THE_MACHINE` are alike.

    Raises:
        ConfigError: as `read_cameras`, `check_addresses` and `check_security`.
    """
    configs = read_cameras(paths, overrides)
    check_addresses(configs[0])
    check_security(configs[0])
    return configs


def read_cameras(paths: Sequence[Path], overrides: Iterable[str] = ()) -> tuple[Config, ...]:
    """Read the configurations as `load_cameras` does, without asking who could reach their sockets.

    Raises:
        ConfigError: a file cannot be read, cameras have one name or one device, or files state different values of what
            holds for all; a line for each finding.
    """
    overrides = tuple(overrides)
    read = {path: read_config(path, overrides) for path in dict.fromkeys(paths)}
    if len(paths) == 1:
        return tuple(read.values())
    named = {path: _name_of(path, config) for path, config in read.items()}
    stated, disagreements = _stated({path: (config, keys_stated(path, overrides)) for path, config in read.items()})
    faults = _naming_faults(named, repeated=[path for path in read if paths.count(path) > 1])
    faults += disagreements + _clock_faults(read, named) + _device_faults(read)
    if faults:
        raise ConfigError("\n".join(faults))
    return tuple(changed(config, _sections({**stated, "source.name": named[path]})) for path, config in read.items())


def camera_names(configs: Sequence[Config]) -> tuple[str, ...]:
    """Names that topics and requests go by; "" for a camera that is alone: its topics begin with no name."""
    return ("",) if len(configs) == 1 else tuple(config.source.name for config in configs)


def _name_of(path: Path, config: Config) -> str:
    return config.source.name if config.source.name != AUTO else path.stem


def _naming_faults(named: Mapping[Path, str], *, repeated: Sequence[Path]) -> list[str]:
    faults = [f"{path} is given more than once: a camera has a file of its own" for path in repeated]
    faults += [
        f"{path}: the camera would be called {name!r}, and topics begin with its name: set source.name, 1 to 64 "
        "letters, digits, '_', '-' and '.', but not 'frame'"
        for path, name in named.items()
        if not CAMERA_NAME.fullmatch(name)
    ]
    for name in dict.fromkeys(named.values()):
        same = [str(path) for path, other in named.items() if other == name]
        if len(same) > 1:
            faults.append(
                f"{' and '.join(same)} are both called {name!r}, and topics and requests go by this name: set "
                "source.name in one of them, not by --set"
            )
    return faults


def _stated(files: Mapping[Path, tuple[Config, set[str]]]) -> tuple[dict[str, Any], list[str]]:
    """Collect what files state of the machine, and what they disagree about."""
    agreed: dict[str, Any] = {}
    faults: list[str] = []
    for key in OF_THE_MACHINE:
        said = {path: _value(config, key) for path, (config, keys) in files.items() if key in keys}
        if len(set(said.values())) > 1:
            values = ", ".join(f"{value!r} in {path}" for path, value in said.items())
            faults.append(f"{key} holds for all cameras of one machine, but is {values}: state it once, or alike")
        agreed |= dict.fromkeys([key] if said else [], next(iter(said.values()), None))
    return agreed, faults


def _clock_faults(read: Mapping[Path, Config], named: Mapping[Path, str]) -> list[str]:
    """Look for clocks that are nobody's own: each camera would wait for another one's."""
    follows = {named[path]: config.source.clock_of for path, config in read.items()}
    return [
        f"{path}: source.clock_of = {config.source.clock_of!r}, a camera that has no clock of its own: name the one "
        "whose clock it is, and leave source.clock_of out there"
        for path, config in read.items()
        if config.source.clock_of and follows.get(config.source.clock_of)
    ]


def _device_faults(read: Mapping[Path, Config]) -> list[str]:
    """Look for two files that open one device: the same driver, by the same serial number or by none."""
    owners: dict[tuple[str, str], Path] = {}
    faults: list[str] = []
    for path, config in read.items():
        driver, serial = config.source.driver, _serial_of(config)
        if serial is None:
            continue
        other = owners.setdefault((driver, serial), path)
        if other != path:
            which = f"serial {serial!r}" if serial else "the first one that it finds"
            faults.append(
                f"{other} and {path} open the same camera: {driver}, {which}. Set source.settings.serial in each "
                "('nire-live devices' lists them)"
            )
    return faults


def _serial_of(config: Config) -> str | None:
    """Tell which device is opened, "" = the first one; None where the driver goes by no serial number.

    So it is where its settings are wrong, which it says itself when it is opened.
    """
    settings = config.source.settings
    with suppress(NireError):
        asked = config.source.model_copy(update={"settings": {"serial": "", **settings}})
        if "path" not in settings and check_settings(asked) is not None:
            return str(settings.get("serial", ""))
    return None


def _value(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def _sections(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    return sections
