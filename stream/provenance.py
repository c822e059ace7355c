"""What the images of a run depend on, and where they were made: written into `run.json`, and compared by `batch`."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nire.install import processor
from stream.backends import weights_of
from stream.config import Config

_VERSIONED = ("nire-live", "torch", "openvino", "numpy", "opencv-python-headless", "iceoryx2")


def inputs_of(config: Config, recording: Path, *, has_frames: bool) -> dict[str, Any]:
    """Tell what a run is made from, as `run.json` has it: the same values mean the same images.

    Args:
        config: of the run.
        recording: file or folder.
        has_frames: whether the recording may have frames: the backend `auto` goes by that.

    Returns:
        `config_digest`; `weights_sha256`, None for a method without a network; `recording_bytes` and
        `recording_modified_ns` (the newest file's, for a folder).

    Raises:
        WeightsError: there are no such weights.
    """
    files = [path for path in recording.rglob("*") if path.is_file()] if recording.is_dir() else [recording]
    found = [path.stat() for path in files if path.exists()]
    return {
        "config_digest": config.digest(),
        "weights_sha256": _sha256(weights_of(config, config.reconstructor.backend_for(has_frames=has_frames))),
        "recording_bytes": sum(each.st_size for each in found),
        "recording_modified_ns": max((each.st_mtime_ns for each in found), default=0),
    }


def host() -> dict[str, str]:
    """Name this machine, its system and its processor."""
    return {"name": platform.node(), "system": platform.platform(), "processor": processor()}


def versions() -> dict[str, str]:
    """Name the versions of Python, of this package and of what computes for it."""
    return {"python": platform.python_version()} | {name: _version_of(name) for name in _VERSIONED}


def _version_of(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "not installed"


def _sha256(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
