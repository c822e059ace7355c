"""The configuration: every key with its default, unit and range; TOML in, a frozen model out."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from nire.errors import ConfigError
from nire.network.config import SIZES
from stream.config_advice import explained, nearest
from stream.windows.policies import policy_names

PlanName = Literal["deblur", "unroll", "upsample", "reshutter"]
AUTO = "auto"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class SourceConfig(_Section):
    """Where packets come from."""

    driver: str = Field("auto", description="a driver, or a dotted module name; auto: told from the recording")
    name: str = Field(
        "auto",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="name of the rings, letters, digits, _ . and - only; auto: driver and publishing port",
    )
    row_delay_us: float = Field(
        0.0, ge=-1e4, le=1e4, description="row delay of a rolling shutter where the source does not say, us per row"
    )
    exposure_us: Literal["recorded"] | float = Field(
        "recorded", description="recorded, or a number: exposure where the recording does not carry it, us"
    )
    time_offset_us: Literal["auto"] | float = Field("auto", description="auto, or a number: events minus frames, us")
    settings: dict[str, Any] = Field(default_factory=dict, description="the driver's own settings")

    @field_validator("exposure_us")
    @classmethod
    def _exposure_range(cls, value: float | str) -> float | str:
        if isinstance(value, float) and not 0 <= value <= 10e6:
            raise ValueError("must be between 0 and 10000000 us")
        return value

    @field_validator("time_offset_us")
    @classmethod
    def _offset_range(cls, value: float | str) -> float | str:
        if isinstance(value, float) and not -1e6 <= value <= 1e6:
            raise ValueError("must be between -1000000 and 1000000 us")
        return value


class RingConfig(_Section):
    """Rings in shared memory."""

    seconds: float = Field(0.5, ge=0.05, le=30, description="the longest consumer stall to survive, s")
    packet_us: int = Field(2000, ge=100, le=100_000, description="producers cut packets at this period, us")
    peak_rate_meps: float = Field(
        12.0, gt=0, le=1000, description="peak event rate to survive, million events a second"
    )


class PlanesConfig(_Section):
    """Event planes."""

    bin_us: int = Field(500, ge=10, le=50_000, description="width of a bin of the absolute time grid, us")


class WindowConfig(_Section):
    """How packets become windows."""

    policy: str = Field("auto", description="how windows are cut; auto: what the plan wants")
    margin_us: int = Field(5000, ge=0, le=1_000_000, description="answered beyond the outermost exposures, us")
    span_us: int = Field(33_000, ge=1000, le=600_000, description="length of a window without frames (span), us")

    @field_validator("policy")
    @classmethod
    def _policy_exists(cls, value: str) -> str:
        known = ["auto", *policy_names()]
        if value not in known:
            raise ValueError(f"{value!r} is no window policy, expected one of {', '.join(known)}")
        return value


class PlanConfig(_Section):
    """Which film/shutter pairs are asked of each window."""

    name: PlanName = Field("upsample", description="deblur, unroll, upsample or reshutter")
    rate_hz: float = Field(400.0, gt=0, le=100_000, description="exposed frames a second (upsample, reshutter)")
    exposure_us: float = Field(0.0, ge=0, le=10e6, description="width of the shutter, us; 0 = an instant")
    row_delay_us: float = Field(0.0, ge=-1e4, le=1e4, description="row delay of the output, us (reshutter)")
    offset_us: float = Field(
        0.0, ge=-1e6, le=1e6, description="from the captured exposure's middle, us (deblur, unroll)"
    )
    time_budget_ms: float = Field(0.0, ge=0, le=60_000, description="per window; 0 = what the frame rate allows, ms")


class ReconstructorConfig(_Section):
    """Which method re-exposes, and how it is run."""

    backend: str = Field(
        "edi",
        description="a backend, or a dotted module name; left out: events_only where there are no frames",
    )
    size: str = Field("nano", description="neural: nano, small or base")
    weights: str = Field("", description="neural: a safetensors file instead of the shipped one")
    engine: str = Field("auto", description="neural: what runs the network, or a dotted module name")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu or cuda:N")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto", description="neural: number format of the network"
    )
    threads: int = Field(0, ge=0, le=256, description="CPU threads for arithmetic; 0 = what the method thinks best")
    contrast_threshold: Literal["auto"] | tuple[float, float] = Field(
        "auto", description="auto: estimated; or [positive, negative] in log intensity"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="the backend's own settings")

    @field_validator("size")
    @classmethod
    def _known_size(cls, value: str) -> str:
        if value not in SIZES:
            raise ValueError(f"the sizes are {', '.join(SIZES)}")
        return value

    @field_validator("contrast_threshold")
    @classmethod
    def _threshold_range(cls, value: str | tuple[float, float]) -> str | tuple[float, float]:
        if isinstance(value, tuple) and not all(0.01 <= v <= 2.0 for v in value):
            raise ValueError("both must be between 0.01 and 2")
        return value

    def backend_for(self, *, has_frames: bool) -> str:
        """Name the backend for a source: the configured one; without frames and where none was set, `events_only`."""
        return self.backend if has_frames or "backend" in self.model_fields_set else "events_only"


def _zmq_address(address: str) -> str:
    transport, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    # ZMQ itself takes a port modulo 65536.
    is_port = port == "*" or (port.isdecimal() and int(port) <= 65_535)
    if (transport in ("ipc", "inproc") and rest) or (transport == "tcp" and host and is_port):
        return address
    raise ValueError("an address such as tcp://127.0.0.1:5556 or ipc:///run/nire.sock is expected")


ZmqAddress = Annotated[str, AfterValidator(_zmq_address)]


class PublishConfig(_Section):
    """The socket that frames leave through."""

    bind: ZmqAddress = Field("tcp://127.0.0.1:5556", description="ZMQ address")
    high_water_mark: int = Field(256, ge=1, le=100_000, description="messages kept for a slow subscriber")


class ControlConfig(_Section):
    """The socket that wishes come in through."""

    bind: ZmqAddress = Field("tcp://127.0.0.1:5557", description="ZMQ address")


class PreviewConfig(_Section):
    """The web page."""

    bind: str = Field("127.0.0.1:8765", description="host:port")
    events_ms: float = Field(10.0, gt=0, le=1000, description="span of the events topic's images, ms")
    fps: float = Field(30.0, gt=0, le=240, description="images a second sent to a browser")


class SecurityConfig(_Section):
    """CURVE keys, needed for any bind beyond loopback."""

    server_key: str = Field("", description="secret key file of this server (nire-live keys new)")
    authorized_keys: str = Field("", description="folder of the public keys that may connect")


class Config(_Section):
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
        ConfigError: as `read_config` and `check_security`.
    """
    config = read_config(path, overrides)
    check_security(config)
    return config


def read_config(path: Path | str | None, overrides: Iterable[str] = ()) -> Config:
    """Read a config as `load_config` does, without asking who could reach its sockets.

    Args:
        path: the file; None = defaults only.
        overrides: as given to `--set`.

    Raises:
        ConfigError: no such file, no TOML, an unknown or an out-of-range key.
    """
    values: dict[str, Any] = {}
    where = "--set"
    if path is not None:
        where = str(path)
        try:
            with open(path, "rb") as file:
                values = tomllib.load(file)
        except OSError as error:
            raise ConfigError(
                f"cannot read the config {path}: {error.strerror}. `nire-live config` lists examples."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is no TOML file: {error}") from error
    for override in overrides:
        _apply(values, override)
        where = f"{path} with --set" if path is not None else where
    return _validate(Config, values, where)


def updated(section: _Section, changes: Mapping[str, Any]) -> Any:
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
