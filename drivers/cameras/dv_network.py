"""Events, frames, triggers and inertial samples from a running DV, or another program with a DV network writer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

from drivers.sdk import dv_packets
from drivers.sdk.dv_queues import DvQueues
from drivers.settings import checked, require_range
from drivers.source import SourceInfo
from nire.errors import ConfigError, DeviceLost, DeviceNotFound, SourceError
from nire.types import Geometry, SourcePacket

_NAME = "dv_network"
_KINDS = {"events": "EVTS", "frames": "FRME", "triggers": "TRIG", "imu": "IMUS"}
# Packets that dv-processing 2.0.4 keeps for a reader that does not read; what comes then is dropped (measured).
_READER_HOLDS = 1000
_TCP = re.compile(r"(?:tcp://)?(?P<host>\[[0-9a-fA-F:.]+\]|[^:/\[\]]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The settings of the streams (`[source.settings]`). DV serves one kind of data at each address.

    Attributes:
        events, frames, triggers, imu: where each is served, "tcp://host:port" or the path of a UNIX socket
            ("unix:///run/dv/events.sock" too); "" = not wanted. Events are always needed.
        color: what frames are made: "gray" or "rgb".
        slack_us: how much later than another stream of the same moment events may arrive, 0 to 1000000.
    """

    events: str = ""
    frames: str = ""
    triggers: str = ""
    imu: str = ""
    color: Literal["gray", "rgb"] = "gray"
    slack_us: int = 100_000

    def __post_init__(self) -> None:
        """Check addresses and ranges.

        Raises:
            ConfigError: it names the setting.
        """
        require_range(_NAME, "slack_us", self.slack_us, 0, 1_000_000)
        if not self.events:
            raise ConfigError(f"{_NAME}: events = '', expected an address: frames without events cannot be re-exposed")
        chosen = {kind: getattr(self, kind) for kind in _KINDS if getattr(self, kind)}
        for kind, address in chosen.items():
            _parsed(kind, address)
        if len(set(chosen.values())) < len(chosen):
            raise ConfigError(f"{_NAME}: two kinds of data have one address; DV serves each at an address of its own")


def open_source(**settings: Any) -> DvNetwork:
    """Prepare the streams; see `NetworkSettings` for names and defaults. Nothing is connected before `with`.

    Raises:
        ConfigError: a setting that does not exist, or an address that is none.
    """
    return DvNetwork(checked(NetworkSettings, _NAME, settings))


def missing_sdk() -> str:
    """Say how to install dv-processing; "" where it is."""
    return dv_packets.missing_sdk()


class DvNetwork:
    """The source: polls one reader for each kind of data and merges them on the camera's clock."""

    def __init__(self, settings: NetworkSettings) -> None:
        """Remember the settings."""
        self.settings = settings
        self._readers: dict[str, Any] = {}
        self._queues: DvQueues | None = None
        self._info: SourceInfo | None = None

    @property
    def has_frames(self) -> bool:
        """Whether it delivers frames."""
        return bool(self.settings.frames)

    @property
    def info(self) -> SourceInfo:
        """What the event stream says of the camera; complete once entered."""
        if self._info is None:
            raise SourceError("the DV streams are not connected: use them in a with statement")
        return self._info

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            SdkMissing: dv-processing is not installed.
            DeviceNotFound: nobody serves at an address.
            ConfigError: another kind of data is served there.
        """
        dv = dv_packets.sdk()
        try:
            for kind in _KINDS:
                if address := getattr(self.settings, kind):
                    self._readers[kind] = _connected(dv, kind, address)
        except (ConfigError, DeviceNotFound):
            self._disconnect()
            raise
        size = self._readers["events"].getEventResolution()
        if size is None:
            self._disconnect()
            raise ConfigError(
                f"{_NAME}: the event stream does not say the size of its sensor; set it where DV serves it"
            )
        channels = 3 if self.settings.color == "rgb" and self.settings.frames else 1
        name = f"{self._readers['events'].getCameraName()} over the network"
        geometry = Geometry(int(size[0]), int(size[1]), channels)
        self._info = SourceInfo(name, geometry, has_frames=self.has_frames, live=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; safe to call twice."""
        self._disconnect()

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield what arrives. Where no stream speaks, as no pixel does, the watermark stays where it is.

        Raises:
            DeviceLost: a connection ended; what had arrived was delivered.
        """
        if not self._readers:
            raise SourceError("the DV streams are not connected: use them in a with statement")
        queues = self._queues = DvQueues(
            self._readers["events"],
            frames=self._readers.get("frames"),
            imu=self._readers.get("imu"),
            triggers=self._readers.get("triggers"),
            channels=self.info.geometry.channels,
            slack_us=self.settings.slack_us,
            full_at=_READER_HOLDS,
        )
        try:
            yield from queues.packets(self._why_lost)
        except RuntimeError as error:
            reason = dv_packets.first_line(error)
            raise DeviceLost(f"{self.info.name}: the connection broke ({reason})") from error

    def _disconnect(self) -> None:
        """Let the readers go: the SDK closes what nothing holds."""
        if self._queues is not None:
            self._queues.close()
        self._queues = None
        self._readers = {}

    def _why_lost(self, _: float) -> str:
        ended = [kind for kind, reader in self._readers.items() if not reader.isRunning()]
        addresses = ", ".join(getattr(self.settings, kind) for kind in ended)
        return f"{self.info.name}: {', '.join(ended)} ended at {addresses}; is DV still running?" if ended else ""


def _connected(dv: ModuleType, kind: str, address: str) -> Any:
    place = _parsed(kind, address)
    try:
        reader = dv.io.NetworkReader(dv.Path(place)) if isinstance(place, str) else dv.io.NetworkReader(*place)
    except (RuntimeError, ValueError) as error:
        raise DeviceNotFound(
            f"{_NAME}: nobody serves {kind} at {address} ({dv_packets.first_line(error)}). Is DV running, with its "
            "network output on, or the program with the dv.io.NetworkWriter?"
        ) from error
    found = reader.getStreamDefinition().mTypeIdentifier
    if found != _KINDS[kind]:
        known = {identifier: name for name, identifier in _KINDS.items()}
        raise ConfigError(
            f"{_NAME}: {address} serves {known.get(found, found)}, expected {kind}: are addresses swapped?"
        )
    return reader


def _parsed(kind: str, address: str) -> str | tuple[str, int]:
    """Take an address apart: the path of a UNIX socket, or (host, port).

    Raises:
        ConfigError: it is neither.
    """
    path = address.removeprefix("unix://")
    if path.startswith("/"):
        return path
    match = _TCP.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65_536:
        raise ConfigError(f"{_NAME}: {kind} = {address!r}, expected tcp://host:port or the path of a UNIX socket")
    host = match["host"].strip("[]")
    return "127.0.0.1" if host == "localhost" else host, int(match["port"])
