"""Workers on a Ray cluster: actors, each with an engine of its own. Orders and what is told travel, images do not.

Recordings and output lie on storage that all nodes share, under the same paths.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import platform
import socket
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nire.errors import ConfigError
from nire.install import pip_install
from stream.batch.worker import Ending, Order, Reached, carried_out
from stream.batch.workers import Died, Started, Worker
from stream.provenance import versions

_CPUS = 2
_REACHED_WITHIN_S = 5.0
_PATIENCE_S = 30.0
_log = logging.getLogger(__name__)


class RayCluster:
    """The place of workers on a running Ray cluster; connected from here to the end of the block."""

    def __init__(self, address: str, devices: Collection[str], out: Path) -> None:
        """Connect.

        Args:
            address: "auto" (the cluster that this machine is a node of), or HOST:PORT of its head.
            devices: as the configs of the batch name them, e.g. "auto": a GPU where the cluster has any.
            out: the output folder; a worker that does not see it is not taken.

        Raises:
            ConfigError: Ray is not installed, there is no such cluster, or none of its nodes has what a worker needs.
        """
        _connect(address)
        self._out = out
        nodes = _nodes()
        has_gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
        on_gpu = any(device.startswith("cuda") or (device == "auto" and has_gpus) for device in devices)
        cpus = min([_CPUS, *(int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1)])
        self._needs = {"CPU": cpus, "GPU": 1} if on_gpu else {"CPU": cpus}
        self._room = sum(min(int(node.get(kind, 0) // need) for kind, need in self._needs.items()) for node in nodes)
        if self._room == 0:
            self._disconnect()
            raise ConfigError(
                f"no node of the Ray cluster at {address} has {self._told_needs()} for a worker, its nodes have "
                f"{nodes or 'nothing'}. Add nodes ('ray start --address=...'), or set reconstructor.device = 'cpu'"
            )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; the cluster goes on."""
        self._disconnect()

    def usual_jobs(self) -> int:
        """As many as the nodes have room for."""
        return self._room

    def start(self) -> _Actor:
        """Ask for an actor; it is up when a node has room and has loaded it."""
        return _Actor(self._needs, self._out)

    def ready(self, workers: Sequence[Worker]) -> list[Worker]:
        """Wait until one at least has a message; say so where none has room."""
        import ray

        awaited = {worker.awaited: worker for worker in workers if isinstance(worker, _Actor)}
        done, _ = ray.wait(list(awaited), num_returns=1, timeout=_PATIENCE_S)
        if not done:
            if not any(worker.is_up for worker in workers):
                _log.warning("no node of the Ray cluster has room yet: a worker waits for %s", self._told_needs())
            done, _ = ray.wait(list(awaited), num_returns=1)
        return [awaited[each] for each in done]

    def _told_needs(self) -> str:
        return " and ".join(f"{need} {kind}" for kind, need in self._needs.items())

    def _disconnect(self) -> None:
        import ray

        ray.shutdown()


class _Actor:
    """One actor, seen from here.

    Attributes:
        awaited: what comes next from it.
    """

    def __init__(self, needs: dict[str, int], out: Path) -> None:
        import ray

        # A start that failed and an order whose worker died are tried again by the batch, which counts and tells it.
        kind = ray.remote(max_restarts=0, max_task_retries=0, num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0))
        self._actor: Any = kind(BatchWorker).options(scheduling_strategy="SPREAD").remote()
        self.order: Order | None = None
        self.is_up = False
        self.awaited: Any = self._actor.start.remote(Path.cwd(), out, versions())

    def give(self, order: Order) -> None:
        self.order = order
        self.awaited = self._actor.carry_out.options(num_returns="streaming").remote(order)

    def take(self) -> Started | Reached | Ending | Died:
        import ray

        try:
            if not self.is_up:
                ray.get(self.awaited)
                self.is_up = True
                return Started()
            message: Reached | Ending = ray.get(next(self.awaited))
        except ray.exceptions.RayTaskError as error:
            return Died(str(error.cause))
        except ray.exceptions.RayError as error:
            return Died(_how(error))
        if isinstance(message, Ending):
            self.order = None
        return message

    def end(self) -> None:
        import ray

        # Also of one that is dead as far as is known: if it lives on where nobody reaches it, it must not write.
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self._actor)


class BatchWorker:
    """The actor, on its node; this is the name that the tools of Ray show."""

    def start(self, folder: Path, out: Path, theirs: dict[str, str]) -> None:
        """Refuse to work where the images would be others, or would lie where nobody finds them.

        Args:
            folder: where the command was called; relative paths begin there.
            out: the output folder of the batch, which is there.
            theirs: versions of the command.

        Raises:
            ConfigError: what differs here.
        """
        with contextlib.suppress(OSError):  # where it is not shared, all paths may be absolute
            os.chdir(folder)
        if not out.is_dir():
            raise ConfigError(
                f"node {platform.node()} has no folder {out}, seen from {folder}: recordings and output have to lie on "
                "storage that all nodes share, under the same paths"
            )
        if differing := sorted(f"{name} {own}" for name, own in set(versions().items()) - set(theirs.items())):
            raise ConfigError(
                f"node {platform.node()} has {', '.join(differing)}, the command has other versions: install the same "
                "on all nodes"
            )

    def carry_out(self, order: Order) -> Iterator[Reached | Ending]:
        """Carry out an order; yields how far it has come, and its ending last."""
        yield from carried_out(order)


def _connect(address: str) -> None:
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"--ray {address} needs Ray, which is not installed: {pip_install('ray')}")
    import ray

    try:
        _require_reachable(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"--ray {address}: there is no Ray cluster to reach: {error}. Expected 'auto' or HOST:PORT of a running "
            "one that this machine is a node of: 'ray start --head', and 'ray start --address=HOST:PORT' on the others"
        ) from error


def _require_reachable(address: str) -> None:
    """Try the head's port first, because Ray tries for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("it is neither 'auto' nor HOST:PORT")
    socket.create_connection((host, int(port)), timeout=_REACHED_WITHIN_S).close()


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _how(error: Exception) -> str:
    """Say how an actor died in Ray's words, without those for its developers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "has died" in line), lines[0] if lines else type(error).__name__)
    return told.partition(" Some common causes")[0]
