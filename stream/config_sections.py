"""The sections of the configuration: every key with its default, unit and range."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from nire.network.config import SIZES
from stream.windows.policies import policy_names

CAMERA_NAME = re.compile(r"(?!frame$|\.+$)[A-Za-z0-9_.-]{1,64}")
"""A camera's name among several: topics begin with it, and `frame/` is how those of a camera alone begin."""
PlanName = Literal["deblur", "unroll", "upsample", "reshutter"]


class Section(BaseModel):
    """Keys that cannot be changed once they are set; one that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number is expected: pydantic takes them for 1 and 0."""
        items = value if isinstance(value, list | tuple) else (value,)
        name = info.field_name or ""
        if any(isinstance(item, bool) for item in items) and _takes_numbers(cls.model_fields[name].annotation):
            raise ValueError("a number is expected, not true or false")
        return value


def _takes_numbers(kind: Any) -> bool:
    return kind in (int, float) or any(_takes_numbers(part) for part in get_args(kind))


class SourceConfig(Section):
    """Where packets come from."""

    driver: str = Field("auto", description="a driver, or a dotted module name; auto: told from the recording")
    name: str = Field(
        "auto",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="name of the rings, and of a camera among several, letters, digits, _ . and - only; auto: driver "
        "and publishing port, among several the file's name without .toml",
    )
    row_delay_us: float = Field(
        0.0, ge=-1e4, le=1e4, description="row delay of a rolling shutter where the source does not say, us per row"
    )
    exposure_us: Literal["recorded"] | float = Field(
        "recorded", description="recorded, or a number: exposure where the recording does not carry it, us"
    )
    time_offset_us: Literal["auto"] | float = Field("auto", description="auto, or a number: events minus frames, us")
    arrival_us: Literal["auto"] | float = Field(
        "auto",
        description="auto (0 to 1000), or a number: least time from a camera's stamp to its packet's arrival, us",
    )
    clock_of: str = Field(
        "", description="another stream's name, whose camera has the same clock (one trigger); empty: its own"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="the driver's own settings")

    @property
    def least_arrival_us(self) -> float | None:
        """`arrival_us` where it is known; None = between 0 and 1000."""
        return None if self.arrival_us == "auto" else self.arrival_us

    @field_validator("exposure_us")
    @classmethod
    def _exposure_range(cls, value: float | str) -> float | str:
        if isinstance(value, float) and not 0 <= value <= 10e6:
            raise ValueError("must be between 0 and 10000000 us")
        return value

    @field_validator("arrival_us")
    @classmethod
    def _arrival_range(cls, value: float | str) -> float | str:
        if isinstance(value, float) and not 0 <= value <= 1e6:
            raise ValueError("must be between 0 and 1000000 us")
        return value

    @field_validator("time_offset_us")
    @classmethod
    def _offset_range(cls, value: float | str) -> float | str:
        if isinstance(value, float) and not -1e6 <= value <= 1e6:
            raise ValueError("must be between -1000000 and 1000000 us")
        return value


class RingConfig(Section):
    """Rings in shared memory."""

    seconds: float = Field(0.5, ge=0.05, le=30, description="the longest consumer stall to survive, s")
    packet_us: int = Field(2000, ge=100, le=100_000, description="producers cut packets at this period, us")
    peak_rate_meps: float = Field(
        12.0, gt=0, le=1000, description="peak event rate to survive, million events a second"
    )
    carrier: Literal["auto", "iceoryx2", "seqlock"] = Field(
        "auto",
        description="iceoryx2, seqlock (the standard library), or auto: iceoryx2 where it is installed",
    )


class PlanesConfig(Section):
    """Event planes."""

    bin_us: int = Field(500, ge=10, le=50_000, description="width of a bin of the absolute time grid, us")


class WindowConfig(Section):
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


class PlanConfig(Section):
    """Which film/shutter pairs are asked of each window."""

    name: PlanName = Field("upsample", description="deblur, unroll, upsample or reshutter")
    rate_hz: float = Field(400.0, gt=0, le=100_000, description="exposed frames a second (upsample, reshutter)")
    exposure_us: float = Field(0.0, ge=0, le=10e6, description="width of the shutter, us; 0 = an instant")
    row_delay_us: float = Field(0.0, ge=-1e4, le=1e4, description="row delay of the output, us (reshutter)")
    offset_us: float = Field(
        0.0, ge=-1e6, le=1e6, description="from the captured exposure's middle, us (deblur, unroll)"
    )
    time_budget_ms: float = Field(0.0, ge=0, le=60_000, description="per window; 0 = what the frame rate allows, ms")


class ReconstructorConfig(Section):
    """Which method re-exposes, and how it is run."""

    backend: str = Field(
        "auto",
        description="auto: the network where it keeps up with the plan, else edi, without frames events_only; or a "
        "backend, or a dotted module name",
    )
    size: str = Field("nano", description="neural: nano, small (better, half as fast) or base (no weights)")
    weights: str = Field("", description="neural: a safetensors file, or paper_nano, instead of the size's")
    engine: str = Field(
        "auto",
        description="neural: what runs the network, or a dotted module name; events_only: also physics, no network",
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu or cuda:N")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto", description="neural: number format of the network"
    )
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="CPU threads for arithmetic; 0 = what the method thinks best; 1 = one window after another",
    )
    spares: int = Field(
        1, ge=0, le=1, description="processes of a stream that have the method loaded and wait to take over"
    )
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
        """Name the backend for a source: the configured one; without frames `auto` is `events_only`."""
        return self.backend if has_frames or self.backend != "auto" else "events_only"


def _zmq_address(address: str) -> str:
    transport, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    # ZMQ itself takes a port modulo 65536.
    is_port = port == "*" or (port.isdecimal() and int(port) <= 65_535)
    if (transport in ("ipc", "inproc") and rest) or (transport == "tcp" and host and is_port):
        return address
    raise ValueError("an address such as tcp://127.0.0.1:5556 or ipc:///run/nire.sock is expected")


ZmqAddress = Annotated[str, AfterValidator(_zmq_address)]


class PublishConfig(Section):
    """The socket that frames leave through."""

    bind: ZmqAddress = Field("tcp://127.0.0.1:5556", description="ZMQ address")
    high_water_mark: int = Field(256, ge=1, le=100_000, description="messages kept for a slow subscriber")


class ControlConfig(Section):
    """The socket that wishes come in through."""

    bind: ZmqAddress = Field("tcp://127.0.0.1:5557", description="ZMQ address")


class PreviewConfig(Section):
    """The web page."""

    bind: str = Field("127.0.0.1:8765", description="host:port")
    events_ms: float = Field(10.0, gt=0, le=1000, description="span of the events topic's images, ms")
    fps: float = Field(30.0, gt=0, le=240, description="images a second sent to a browser")


class SecurityConfig(Section):
    """CURVE keys, needed for any bind beyond loopback."""

    server_key: str = Field("", description="secret key file of this server (nire-live keys new)")
    authorized_keys: str = Field("", description="folder of the public keys that may connect")
