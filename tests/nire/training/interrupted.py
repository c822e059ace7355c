"""Training that gets a signal in its fifth step: `python -m tests.nire.training.interrupted FOLDER`.

A process of its own: a signal that the loop does not take ends this one, not the tests.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path

from rich.console import Console
from torch import Tensor

from nire.training.loop import train
from tests.nire.training.rooms import ALONE, StandIn, materials, small_bank, small_settings

NUMBERS = (signal.SIGTERM, signal.SIGINT)
AT = 5


class Interrupted(StandIn):
    """Sends its process a signal in its n-th training step."""

    def __init__(self, at: int, number: int) -> None:
        super().__init__()
        self.left, self.number = at, number

    def forward(self, *inputs: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return super().forward(*inputs)


def stop(folder: Path, iterations: int) -> None:
    """Stop a run of so many iterations by each signal, into a folder of the signal's name, and check what it left."""
    bank, settings = small_bank(folder / "pictures"), small_settings(optimiser={"iterations": iterations})
    for number in NUMBERS:
        made = dataclasses.replace(materials(bank), network=Interrupted(AT, number))
        made.network.load_state_dict(materials(bank).network.state_dict())
        before = signal.getsignal(number)
        done = train(settings, made, folder / number.name, ranks=ALONE, console=Console(quiet=True))
        assert done == AT, f"{number.name} stopped the run after {done} iterations"
        assert signal.getsignal(number) == before, f"the handler of {number.name} is another one than before"


if __name__ == "__main__":
    stop(Path(sys.argv[1]), int(sys.argv[2]))
