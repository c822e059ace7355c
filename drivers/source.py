"""What a source is: an iterator of packets inside a context manager, and how an absent SDK is reported."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

from nire.errors import SdkMissing
from nire.install import pip_install
from nire.types import Geometry, SourcePacket


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out about a recording that does not say all itself, for people.

    Attributes:
        what: "unit of time", "columns", ...
        value: as found.
        why: how it was found: set, said by the file, or by what fits.
    """

    what: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Stream:
    """One of the streams of a recording, for people.

    Attributes:
        name: a topic, the number of a stream, a file, a dataset.
        kind: what it carries, as the format calls it.
        taken: it is read; others are left alone.
    """

    name: str
    kind: str
    taken: bool


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source before its first packet.

    Attributes:
        name: for people: device name and serial, or file name.
        geometry: of the sensor.
        has_frames: False where the source can never deliver a frame.
        live: True where the source itself keeps real time; False for files, which are read as fast as asked.
        duration_us: length of a recording; None for a live source or where unknown.
        time_offset_us: event time minus frame time where the source knows it (0 for one clock and no lag);
            None where it has to be estimated.
        streams: all streams of a recording, those that are read marked; empty where it has one of each kind at most.
        found: what the recording did not say by itself, and how it was found.
        unix_time: a recording whose format counts from 1970, where whoever recorded knew the time.
        replayed: a recording that keeps real time: when its packets come says nothing about wall time.
    """

    name: str
    geometry: Geometry
    has_frames: bool = True
    live: bool = False
    duration_us: int | None = None
    time_offset_us: float | None = None
    streams: tuple[Stream, ...] = ()
    found: tuple[Found, ...] = ()
    replayed: bool = False
    unix_time: bool = False


class Source(Protocol):
    """A camera or a recording.

    Entering opens it, leaving closes it. Iterating yields packets in the order in which they become known:
    events sorted in time, every frame after the end of its exposure, watermarks that never go back.
    Loss is a `Gap`, never silence. Errors are `nire.errors.SourceError`s.

    A source may also have `has_frames: bool | None`, which tells before it is entered whether it will deliver frames,
    None where only the device knows; and `change(settings: Mapping[str, Any]) -> bool`: see `change_while_open`.
    """

    @property
    def info(self) -> SourceInfo:
        """What is known of it; complete once entered."""
        ...

    def __enter__(self) -> Self:
        """Open."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; safe to call twice."""
        ...

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield packets until the source ends."""
        ...


def change_while_open(source: Source, settings: Mapping[str, Any]) -> bool:
    """Change settings of a source between two of its packets, where it can do so without being opened again.

    Args:
        source: entered; its `change`, where it has one, takes part of its settings and says whether that was enough.
        settings: the driver's own.

    Returns:
        False where it has to be opened again: nothing was changed then.

    Raises:
        ConfigError: a setting that does not exist or is out of range; nothing was changed.
        DeviceLost: the device does not answer.
    """
    change = getattr(source, "change", None)
    return change is not None and bool(change(settings))


def require_sdk(module: str, *, package: str, extra: str | None = None) -> ModuleType:
    """Import a vendor package when it is needed.

    Args:
        module: import name.
        package: name on the package index, or in words where to get it.
        extra: the extra of this project that installs it.

    Raises:
        SdkMissing: it cannot be imported; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SdkMissing(
            f"this source needs {package}, which cannot be imported ({error}). To fix it: {_remedy(package, extra)}"
        ) from error


def missing_package(module: str, *, package: str, extra: str | None = None) -> str:
    """Say what to install for a vendor package that is not there, without importing it; "" where it is.

    Args:
        module, package, extra: as for `require_sdk`.
    """
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if found:
        return ""
    return f"{package}: {_remedy(package, extra)}" if extra else package


def _remedy(package: str, extra: str | None) -> str:
    return pip_install(extra) if extra else f"install {package}"
