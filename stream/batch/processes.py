"""Workers that are processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Collection, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self

from nire.backends import prepare_torch
from stream.batch.worker import Ending, Order, Reached, serve
from stream.batch.workers import Died, Started, Worker


class ThisMachine:
    """The place of workers that are processes here."""

    def __init__(self, devices: Collection[str]) -> None:
        """Start nothing.

        Args:
            devices: as the configs of the batch name them, e.g. "auto".
        """
        self._devices = devices

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def usual_jobs(self) -> int:
        """Half the cores, one on a GPU.

        Raises:
            ConfigError: a GPU is asked for that torch cannot use.
        """
        on_gpu = any(prepare_torch(device, threads=0).type == "cuda" for device in self._devices)
        return 1 if on_gpu else max(1, (os.cpu_count() or 1) // 2)

    def start(self) -> _Process:
        """Start a process; it takes orders at once."""
        return _Process()

    def ready(self, workers: Sequence[Worker]) -> list[Worker]:
        """Wait until one at least has a message."""
        pipes = {worker.orders: worker for worker in workers if isinstance(worker, _Process)}
        return [pipes[pipe] for pipe in wait(list(pipes)) if pipe in pipes]


class _Process:
    """One process, seen from outside."""

    is_up = True

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.orders, theirs = context.Pipe()
        self.order: Order | None = None
        self._process = context.Process(target=serve, args=(theirs,), name="nire-live batch")
        resource_tracker.ensure_running()  # started by the first child otherwise, and then it would clear the mask
        # Ctrl-C reaches the whole group; this process alone decides what follows. The mask is inherited.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def give(self, order: Order) -> None:
        self.order = order
        with contextlib.suppress(OSError):  # it is dead, which `take` tells
            self.orders.send(order)

    def take(self) -> Started | Reached | Ending | Died:
        try:
            message: Reached | Ending = self.orders.recv()
        except (EOFError, OSError):
            return Died(self._death())
        if isinstance(message, Ending):
            self.order = None
        return message

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self.orders.close()

    def _death(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return "killed by SIGKILL, as happens where memory runs out: fewer --jobs need less"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
