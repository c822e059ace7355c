"""Every exception raised on purpose: what was found, what was expected, what to do."""

from __future__ import annotations


class NireError(Exception):
    """Root of all errors raised on purpose.

    Attributes:
        exit_code: what the command line exits with when this error ends it (docs/architecture.md, "Errors").
    """

    exit_code = 2


class ConfigError(NireError):
    """A configuration or a command that cannot be carried out as written."""


class SourceError(NireError):
    """A camera or a recording cannot be used."""


class SdkMissing(SourceError):
    """The package that talks to this device or format is not installed."""


class DeviceNotFound(SourceError):
    """No device of the wanted kind, or not the wanted serial number, is connected."""


class DeviceLost(SourceError):
    """A device was there and went away."""


class RecordingDamaged(SourceError):
    """A recording ends or breaks in the middle; everything before `position` was delivered.

    Attributes:
        position: byte offset (or record number, as the message says) of the damage, or None where unknown.
    """

    exit_code = 4

    def __init__(self, message: str, position: int | None = None) -> None:
        """Keep the position beside the message."""
        super().__init__(message)
        self.position = position


class RingError(NireError):
    """A ring in shared memory cannot be made, joined or written."""


class ShutterOutsideWindow(NireError):
    """A shutter reaches beyond what the content knows.

    Attributes:
        covered_us: (first, last) device time that can be answered, microseconds.
    """

    exit_code = 3

    def __init__(self, message: str, covered_us: tuple[float, float]) -> None:
        """Keep the covered span beside the message."""
        super().__init__(message)
        self.covered_us = covered_us


class WeightsError(NireError):
    """Network weights are missing, damaged, or made for another configuration."""


class EngineError(NireError):
    """An engine cannot run the network."""


class EngineMissing(EngineError):
    """The package or the hardware that an engine needs is not there."""


class EngineMismatch(EngineError):
    """A cached engine was built for other weights, shapes, precision, GPU or versions."""


class DeviceMemoryFull(EngineError):
    """The memory of the device does not hold this; fewer queries together may fit."""


class AcceleratorLost(EngineError):
    """The GPU fails this process for good. A new process may find it well: code 1 lets the supervisor start one."""

    exit_code = 1


class WireError(NireError):
    """A message on a socket does not follow the wire format (docs/wire-format.md)."""


class TrainingStopped(NireError):
    """Training cannot go on: its loss is not a finite number."""

    exit_code = 1
