"""The workers of a batch: each takes an order as soon as it is free; the order of one that dies goes to another."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from stream.batch.worker import Ending, Order, Reached

_TRIES = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Started:
    """A worker takes orders from now on."""


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is gone; how."""

    reason: str


class Worker(Protocol):
    """One worker, seen from outside.

    Attributes:
        order: that it works on; None = none.
        is_up: it takes orders.
    """

    order: Order | None
    is_up: bool

    def give(self, order: Order) -> None:
        """Have an order carried out; of a free worker that is up."""

    def take(self) -> Started | Reached | Ending | Died:
        """Take the next message of one that starts or works, and wait for it if need be; after an ending it is free."""

    def end(self) -> None:
        """End it, whatever it is at."""


class Place(AbstractContextManager["Place"], Protocol):
    """Where workers live: this machine, or a cluster."""

    def usual_jobs(self) -> int:
        """Say how many workers fit well."""

    def start(self) -> Worker:
        """Start a worker; it need not be up at once."""

    def ready(self, workers: Sequence[Worker]) -> list[Worker]:
        """Wait until one at least of these has a message, and list those that have; they start or work."""


class Workers:
    """A row of workers, started when there is work for them, ended with the block."""

    def __init__(self, place: Place, count: int) -> None:
        """Start none yet.

        Args:
            place: where they live.
            count: at most so many at a time.
        """
        self._place = place
        self._count = count
        self._workers: list[Worker] = []
        self._failed_starts = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all; what they were at stays unfinished."""
        for worker in self._workers:
            worker.end()

    def work(
        self, orders: Iterable[Order], reached: Callable[[Order, float], None] = lambda order, share: None
    ) -> Iterator[tuple[Order, Ending]]:
        """Have orders carried out, and yield each with its ending, as they end.

        Args:
            orders: each of a label of its own.
            reached: told how far an order has come, 0 .. 1.
        """
        waiting = deque(orders)
        deaths: defaultdict[str, list[str]] = defaultdict(list)
        while waiting or any(worker.order for worker in self._workers):
            self._hand_out(waiting)
            for worker in self._place.ready([each for each in self._workers if each.order or not each.is_up]):
                order, message = worker.order, worker.take()
                if isinstance(message, Died):
                    self._remove(worker)
                if order is None:
                    yield from self._started(message, waiting)
                elif isinstance(message, Reached):
                    reached(order, message.share)
                elif isinstance(message, Ending):
                    yield order, replace(message, warnings=(*deaths[order.label], *message.warnings))
                elif isinstance(message, Died):
                    deaths[order.label].append(f"its worker died: {message.reason}")
                    if len(deaths[order.label]) < _TRIES:
                        _log.warning("%s: its worker died: %s; another tries it again", order.label, message.reason)
                        waiting.appendleft(order)
                    else:
                        reason = f"its worker died {_TRIES} times, the last time {message.reason}"
                        yield order, Ending(reason, is_usable=False)

    def _hand_out(self, waiting: deque[Order]) -> None:
        """Give orders to those that are free, and start a worker for each of the others as far as they may be."""
        free = [worker for worker in self._workers if worker.is_up and worker.order is None]
        starting = sum(not worker.is_up for worker in self._workers)
        while len(free) + starting < len(waiting) and len(self._workers) < self._count:
            worker = self._place.start()
            self._workers.append(worker)
            if worker.is_up:
                free.append(worker)
            else:
                starting += 1
        for worker in free[: len(waiting)]:
            worker.give(waiting.popleft())

    def _started(self, message: object, waiting: deque[Order]) -> Iterator[tuple[Order, Ending]]:
        """Note how a start ended; after several that failed those that are there go on alone, if there are any."""
        if not isinstance(message, Died):
            self._failed_starts = 0
            return
        self._failed_starts += 1
        _log.warning("a worker did not start: %s", message.reason)
        if self._failed_starts < _TRIES:
            return
        self._count = len(self._workers)
        if not self._workers:
            for order in waiting:
                yield order, Ending(f"no worker starts, the last one did not: {message.reason}", is_usable=False)
            waiting.clear()

    def _remove(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.end()
