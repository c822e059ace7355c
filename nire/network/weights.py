"""Weights on disk: safetensors, with the network's config inside; written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nire.errors import ConfigError, WeightsError
from nire.explicit.config import ExplicitConfig
from nire.explicit.network import KeyPlaneNetwork
from nire.network.config import NetworkConfig
from nire.network.reexposure import ReExposureNetwork
from nire.recurrent.config import RecurrentConfig
from nire.recurrent.network import RecurrentNetwork

FORMAT = "nire-network-1"
EXPLICIT_FORMAT = "nire-explicit-2"
RECURRENT_FORMAT = "nire-recurrent-1"
CHANGE_FORMAT = "nire-change-1"
Network = ReExposureNetwork | KeyPlaneNetwork | RecurrentNetwork
Config = NetworkConfig | ExplicitConfig | RecurrentConfig
_CONFIGS: dict[str, type[Config]] = {
    FORMAT: NetworkConfig,
    EXPLICIT_FORMAT: ExplicitConfig,
    RECURRENT_FORMAT: RecurrentConfig,
}
_NETWORKS: dict[type[Config], type[Network]] = {
    NetworkConfig: ReExposureNetwork,
    ExplicitConfig: KeyPlaneNetwork,
    RecurrentConfig: RecurrentNetwork,
}
_KNOWN = (*_CONFIGS, CHANGE_FORMAT)


def save(network: Network, path: Path, meta: Mapping[str, str]) -> None:
    """Write weights and config to `path`.

    Args:
        network: on any device.
        path: its folder exists; what was there is replaced in one step.
        meta: what people should know: how it was trained, on what.
    """
    kind = next(name for name, config in _CONFIGS.items() if isinstance(network.config, config))
    _write(
        network.state_dict(), path, {**meta, "format": kind, "config": json.dumps(dataclasses.asdict(network.config))}
    )


def save_change(network: Network, base: Path, path: Path, meta: Mapping[str, str]) -> None:
    """Write what a network has of its own beside the weights that it began with; `load_any` puts both together.

    Args:
        network: of the config of `base`.
        base: a file of `save`; it is named, and known by its digest.
        path, meta: as for `save`.
    """
    began = _read(base)
    own = {name: value for name, value in network.state_dict().items() if not torch.equal(value, began[name])}
    said = {"format": CHANGE_FORMAT, "base": str(base.resolve()), "base_sha256": _digest(base)}
    _write(own, path, {**meta, **said})


def _write(state: Mapping[str, Tensor], path: Path, described: Mapping[str, str]) -> None:
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, unfinished, dict(described))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: Path, expected: NetworkConfig | None = None) -> ReExposureNetwork:
    """Read a network of the paper, on the CPU in float32 or whatever it was saved in, ready to run.

    Args:
        path: a file of `save`.
        expected: what the network must be; `attention` may differ and is taken from here. None takes what is there.

    Raises:
        WeightsError: missing, truncated, foreign, or of another kind or config; says what fits.
    """
    network = load_any(path, expected)
    if not isinstance(network, ReExposureNetwork):
        raise WeightsError(_other_kind(path, network.config, NetworkConfig))
    return network


def load_any(path: Path, expected: Config | None = None) -> Network:
    """Read a network of any kind, or one that was changed; arguments and errors as for `load`."""
    network = outline(path, expected)
    state = _read(path)
    if metadata(path)["format"] == CHANGE_FORMAT:
        state = _read(_base_of(path)) | state
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval()


def outline(path: Path, expected: Config | None = None) -> Network:
    """Read what a file holds without its weights: a network on torch's meta device, which takes no memory.

    Args:
        path, expected: as for `load`.

    Raises:
        WeightsError: as `load`.
    """
    meta = metadata(path)
    if meta["format"] == CHANGE_FORMAT:
        network = outline(_base_of(path), expected)
        _require_part(path, network)
        return network
    config = _config(path, meta)
    if expected is not None:
        _compare(path, config, expected)
        config = expected
    network = unfilled(config)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = _shapes(path)
    if wanted != found:
        odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise WeightsError(
            f"{path} does not hold the tensors of a {config.size!r} network: {len(odd)} differ, first {odd[0]}: found "
            f"{found.get(odd[0])}, expected {wanted.get(odd[0])}. Another version wrote it; train or get it anew"
        )
    return network


def unfilled(config: Config) -> Network:
    """Make a network without weights, on torch's meta device."""
    with torch.device("meta"):
        return make(config)


def make(config: Config) -> Network:
    """Make an untrained network."""
    network = _NETWORKS[type(config)]
    made: Network = network(config)  # type: ignore[arg-type]
    return made


def metadata(path: Path) -> dict[str, str]:
    """Read what `save` was told about the weights, and "format" and "config" (of a change: "base", "base_sha256").

    Raises:
        WeightsError: missing, truncated or foreign.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
    except (SafetensorError, OSError) as problem:
        raise WeightsError(_unreadable(path, problem)) from problem
    if meta.get("format") not in _KNOWN:
        raise WeightsError(
            f"{path} is a safetensors file of format {meta.get('format')!r}; expected one of {', '.join(_KNOWN)}, "
            "which `nire-live train` and `nire-live adapt` write"
        )
    return meta


def all_shipped() -> dict[str, Path]:
    """Find the weights that come with the package, for windows with frames: by size, and "paper_" for the paper's."""
    folder = Path(__file__).resolve().parents[1] / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors")) if not path.stem.endswith("_events_only")}


def shipped(size: str) -> Path | None:
    """Find the weights of a size that come with the package; None where none do."""
    path = Path(__file__).resolve().parents[1] / "weights" / f"{size}.safetensors"
    return path if path.is_file() else None


def _base_of(path: Path) -> Path:
    """Find the weights that a change is of: where they were, beside it, or the shipped ones of that name.

    Raises:
        WeightsError: they are not there, or are others.
    """
    meta = metadata(path)
    was = Path(meta.get("base", "-"))
    shipped_one = shipped(was.stem)
    places = [was, path.with_name(was.name), *([shipped_one] if shipped_one else [])]
    for place in places:
        if place.is_file() and _digest(place) == meta.get("base_sha256"):
            return place
    found = [place for place in places if place.is_file()]
    reason = f"{found[0]} holds others" if found else f"there is no {was.name} there, beside it or in this version"
    raise WeightsError(
        f"{path} changes the weights {was}, and {reason}; run `nire-live adapt` again with this version's weights, or "
        "put the file that it was made with beside it"
    )


def _require_part(path: Path, network: Network) -> None:
    """Refuse a change that is of another network."""
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    odd = sorted(name for name, shape in _shapes(path).items() if wanted.get(name) != shape)
    if odd:
        raise WeightsError(f"{path} holds {odd[0]}, which its weights do not have in this shape; make it anew")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as problem:
        raise WeightsError(_unreadable(path, problem)) from problem


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as problem:
        raise WeightsError(_unreadable(path, problem)) from problem


def _unreadable(path: Path, problem: Exception) -> str:
    if not path.is_file():
        return f"there are no weights at {path}; give another path, or train them by `nire-live train`"
    return (
        f"{path} ({path.stat().st_size:,} bytes) is no whole safetensors file ({problem}); it is truncated or of "
        "another kind: copy it again, or train it by `nire-live train`"
    )


def _config(path: Path, meta: Mapping[str, str]) -> Config:
    try:
        written: dict[str, Any] = json.loads(meta["config"])
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in written.items()}
        return _CONFIGS[meta["format"]](**fields)
    except (KeyError, TypeError, ValueError, ConfigError) as problem:
        raise WeightsError(
            f"the config inside {path} cannot be used ({problem}); it was written by another version: train or get "
            "the weights anew"
        ) from problem


def _other_kind(path: Path, found: Config, expected: type[Config]) -> str:
    return (
        f"{path} holds a network of another kind ({type(found).__name__}, expected {expected.__name__}); give weights "
        "that were trained for it"
    )


def _compare(path: Path, found: Config, expected: Config) -> None:
    """Refuse weights of another config; `attention` is a way of running, not of training shapes."""
    if type(found) is not type(expected):
        raise WeightsError(_other_kind(path, found, type(expected)))
    differing = [
        f"{field.name} is {getattr(found, field.name)!r}, expected {getattr(expected, field.name)!r}"
        for field in dataclasses.fields(expected)
        if field.name != "attention" and getattr(found, field.name) != getattr(expected, field.name)
    ]
    if differing:
        raise WeightsError(
            f"{path} holds a {found.size!r} network that does not fit: {'; '.join(differing)}. Load it with its own "
            f"config (size {found.size!r}), or give weights trained for size {expected.size!r}"
        )
