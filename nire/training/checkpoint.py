"""Checkpoints: the whole state of a run in one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nire.errors import WeightsError

FORMAT = "nire-checkpoint-1"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        network, average: tensors by name.
        optimiser: tensors by "<number of the parameter>.<name>".
        random: uint8 state of the CPU's generator, and of each GPU's.
        iteration: how many were done; sample and schedule follow from it.
        history: float64 [iteration, 2], loss and learning rate of each.
        settings: the run's, as a dictionary that JSON can hold.
    """

    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    random: dict[str, Tensor]
    iteration: int
    history: Tensor
    settings: dict[str, Any]


_GROUPS = ("network", "average", "optimiser", "random")


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint beside `path`, make sure that it is on the disk, and put it in its place.

    Args:
        checkpoint: tensors on any device.
        path: its folder exists.
    """
    tensors = {
        f"{group}/{name}": value.detach().cpu().contiguous().clone()
        for group in _GROUPS
        for name, value in getattr(checkpoint, group).items()
    }
    tensors["history"] = checkpoint.history.contiguous()
    meta = {"format": FORMAT, "iteration": str(checkpoint.iteration), "settings": json.dumps(checkpoint.settings)}
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, unfinished, meta)
        _flush(unfinished)
        unfinished.replace(path)
        _flush(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint, on the CPU.

    Raises:
        WeightsError: missing, truncated or foreign.
    """
    if not path.is_file():
        raise WeightsError(f"there is no checkpoint at {path}; start without --resume, or name the right --out")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as problem:
        raise WeightsError(f"{path} is no whole checkpoint ({problem}); start without --resume") from problem
    if meta.get("format") != FORMAT:
        raise WeightsError(
            f"{path} has format {meta.get('format')!r}, expected {FORMAT!r}; it is no checkpoint of ours"
        )
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in _GROUPS}
    history = tensors.pop("history")
    for name, value in tensors.items():
        group, _, rest = name.partition("/")
        groups[group][rest] = value
    return Checkpoint(
        **groups, iteration=int(meta["iteration"]), history=history, settings=json.loads(meta["settings"])
    )


def require_fit(held: Mapping[str, Tensor], network: nn.Module, path: Path) -> None:
    """Make sure that a network can take the tensors of a checkpoint.

    Args:
        held: `Checkpoint.network`.
        network: that shall go on.
        path: of the checkpoint, for the message.

    Raises:
        WeightsError: names or shapes differ, as after a change of the network's code; names the first.
    """
    found = {name: tuple(value.shape) for name, value in held.items()}
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if odd:
        raise WeightsError(
            f"{path} holds another network than this version makes of the same settings: {len(odd)} tensor(s) differ, "
            f"first {odd[0]}: found {found.get(odd[0])}, expected {wanted.get(odd[0])}. Resume with the version that "
            "wrote it, or start anew with another --out"
        )


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while they wrote left behind: files `.NAME.PID.part`.

    Args:
        folder: of a run; files of processes that live stay. This process must not be writing.
    """
    for path in folder.glob(".*.*.part"):
        pid = path.name.split(".")[-2]
        # In a container that was started again, the one that was killed had the number of this one.
        if pid.isdecimal() and (pid == str(os.getpid()) or not Path("/proc", pid).exists()):
            path.unlink(missing_ok=True)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Take the state of an optimiser apart: moments and step counts per parameter."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the state of an optimiser back; its groups (and learning rate) stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def random_state() -> dict[str, Tensor]:
    """Read the state of torch's generators; everything else random is drawn from numbered seeds."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda{k}": value for k, value in enumerate(torch.cuda.get_rng_state_all())}
    return state


def restore_random(state: dict[str, Tensor]) -> None:
    """Put the state of torch's generators back; a GPU that is no more is left out."""
    torch.set_rng_state(state["cpu"])
    for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{k}" in state:
            torch.cuda.set_rng_state(state[f"cuda{k}"], k)


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
