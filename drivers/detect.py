"""Find the driver: by name for cameras, by content for recordings. What lies in the two folders is a driver."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import pkgutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import drivers.cameras
import drivers.recordings
from drivers.apart import ReadApart
from drivers.settings import called, require_settings
from drivers.source import Source
from nire.errors import ConfigError, RecordingDamaged, SourceError

_HEAD_BYTES = 4096
_PLACE = "[source.settings]"
_log = logging.getLogger(__name__)


def camera_names() -> list[str]:
    """Names of all cameras, sorted: what lies in drivers/cameras. Nothing is imported."""
    return sorted(module.name for module in pkgutil.iter_modules(drivers.cameras.__path__))


def recording_names() -> list[str]:
    """Names of all kinds of recordings, sorted: what lies in drivers/recordings. Nothing is imported."""
    return sorted(module.name for module in pkgutil.iter_modules(drivers.recordings.__path__))


def driver_names() -> list[str]:
    """Names of all drivers, sorted. Nothing is imported."""
    return sorted([*camera_names(), *recording_names()])


def driver_module(name: str) -> str:
    """Tell the dotted name of a driver's module: the name itself where it is dotted.

    Raises:
        ConfigError: no such driver.
    """
    if "." in name:
        return name
    if name in recording_names():
        return f"drivers.recordings.{name}"
    if name in camera_names():
        return f"drivers.cameras.{name}"
    near = difflib.get_close_matches(name, driver_names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the drivers are {', '.join(driver_names())}"
    raise ConfigError(f"there is no driver {name!r}; {hint}")


def plays_recordings(name: str) -> bool:
    """Tell whether a driver reads files (it recognises them, or takes a `path`), or is a camera.

    Raises:
        ConfigError: no such driver.
    """
    module = _module(name)
    return hasattr(module, "recognise") or "path" in inspect.signature(module.open_source).parameters


def needs_path(name: str, /, **settings: Any) -> bool:
    """Tell whether a driver cannot be made without the path of a recording that these settings do not give.

    Raises:
        ConfigError: no such driver.
    """
    path = inspect.signature(_module(name).open_source).parameters.get("path")
    return path is not None and path.default is inspect.Parameter.empty and "path" not in settings


def missing_sdk(name: str, /, **settings: Any) -> str:
    """Say what to install for a driver, as its `missing_sdk` does; "" where nothing is missing.

    Args:
        name: of the driver.
        settings: the driver's own; its `missing_sdk` gets those that it has as parameters.

    Raises:
        ConfigError: no such driver.
    """
    module = _module(name)
    if not hasattr(module, "missing_sdk"):
        return ""
    takes = inspect.signature(module.missing_sdk).parameters
    return str(module.missing_sdk(**{key: value for key, value in settings.items() if key in takes}))


def open_driver(name: str, /, **settings: Any) -> Source:
    """Open a driver by name.

    Args:
        name: a file under drivers/, or a dotted module name for code outside this repository.
        settings: the driver's own.

    Raises:
        ConfigError: no such driver, a setting that it does not have, or a value that it does not take.
    """
    return _call(_module(name), settings)


def check_driver(name: str, /, **settings: Any) -> None:
    """Check the settings of a driver of recordings as far as they tell before a recording is named; opens nothing.

    Args:
        name: as for `open_driver`.
        settings: the driver's own, without `path`.

    Raises:
        ConfigError: as `open_driver`.
    """
    module = _module(name)
    if "." in name:  # what somebody else's driver does with a path is not known
        require_settings(module.open_source, settings, owner=_owner(module))
    else:
        called(module.open_source, {**settings, "path": ""}, owner=_owner(module), place=_PLACE)


def open_recording(path: str | Path, /, **settings: Any) -> Source:
    """Open a recording; its kind is told from its content, not from its suffix.

    Args:
        path: the file; a folder or zip archive where a recording is several files.
        settings: of the driver that knows it.

    Raises:
        SourceError: no such file, an empty file, or a kind that no driver knows.
        RecordingDamaged: an archive without its list of files.
        ConfigError: the driver has no such setting, or does not take its value.
    """
    path = Path(path)
    if "path" in settings:
        raise ConfigError(f"{path} is the recording that is read: leave out the setting path = {settings['path']!r}")
    return _call(_reader_of(path, read_head(path)), {"path": path, **settings})


def is_recording(path: Path) -> bool:
    """Tell whether a driver knows a file; False also where it cannot be read."""
    try:
        _reader_of(path, read_head(path))
    except SourceError:
        return False
    return True


def read_head(path: Path) -> bytes:
    """Read the first bytes of a recording; a folder has none.

    Raises:
        SourceError: no such file, an empty or unreadable file.
    """
    if path.is_dir():
        return b""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise SourceError(f"there is no file {path}") from error
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise SourceError(f"{path} is empty: no recording was written, or copying it failed")
    return head


def _reader_of(path: Path, head: bytes) -> ModuleType:
    known = []
    for module in _readers():
        if _recognises(module, head, path):
            return module
        known.append(module.__name__.rpartition(".")[2])
    if path.is_dir():
        raise SourceError(
            f"{path} is a folder without a recording of several files (events.txt, or images with their times and a "
            "file of events): name a file in it"
        )
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise RecordingDamaged(
            f"{path} is a damaged archive: it begins as a zip archive does and has no list of files", 0
        )
    raise SourceError(
        f"{path} is no recording that can be read: it begins with {head[:16]!r}, and none of the readers "
        f"({', '.join(known)}) knows that"
    )


def _recognises(module: ModuleType, head: bytes, path: Path) -> bool:
    """Ask a reader about a file; one that its bytes make stumble does not know it."""
    try:
        return bool(module.recognise(head, path))
    except Exception:  # noqa: BLE001 - whatever a parser makes of strange bytes
        _log.debug("%s stumbles over %s", module.__name__, path, exc_info=True)
        return False


def _readers() -> Iterator[ModuleType]:
    for name in recording_names():
        yield importlib.import_module(f"drivers.recordings.{name}")


def _module(name: str) -> ModuleType:
    dotted = driver_module(name)
    try:
        module = importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        raise ConfigError(f"the driver {name!r} cannot be imported: {error}") from error
    if not hasattr(module, "open_source"):
        raise ConfigError(f"the module {name!r} is no driver: it has no function open_source")
    return module


def _call(module: ModuleType, settings: dict[str, Any]) -> Source:
    """Call `open_source` with settings that it has and takes."""
    source: Source = called(module.open_source, settings, owner=_owner(module), place=_PLACE)
    return ReadApart(module.__name__, settings) if getattr(module, "READS_APART", False) else source


def _owner(module: ModuleType) -> str:
    return f"the driver {module.__name__.rpartition('.')[2]!r}"
