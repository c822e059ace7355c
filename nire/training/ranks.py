"""One process per GPU: what a process started by torchrun knows about the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from nire.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Ranks:
    """Place of this process.

    Attributes:
        rank: 0 to world - 1; 0 writes files and talks.
        world: number of processes; 1 without torchrun.
        device: of this process.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """True in the one process that writes files and talks."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is up in any process; all must ask together."""
        if self.world == 1:
            return flag
        raised = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        return bool(raised.item())


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the other processes where torchrun started this one, and leave them at the end.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: the device is not there.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(0, 1, _device(device, 0))
        return
    chosen = _device(device, int(os.environ["LOCAL_RANK"]))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), world, chosen)
    finally:
        distributed.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"run.device = {name!r} is no device; choose auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"run.device = {name!r}, but there are {torch.cuda.device_count()} CUDA devices; choose cpu")
    return device
