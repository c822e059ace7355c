"""The processes of a batch: each takes an order as soon as it is free; the order of one that dies goes to another."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self

from stream.batch.worker import Ending, Order, Reached, serve

_TRIES = 3


class Workers:
    """A row of processes, started when there is work for them, ended with the block."""

    def __init__(self, count: int) -> None:
        """Start none yet.

        Args:
            count: at most so many at a time.
        """
        self._count = count
        self._workers: list[_Worker] = []

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
        deaths: Counter[str] = Counter()
        while waiting or any(worker.order for worker in self._workers):
            self._hand_out(waiting)
            for worker in self._ready():
                order, message = worker.take()
                if isinstance(message, Reached):
                    reached(order, message.share)
                elif isinstance(message, Ending):
                    yield order, message
                else:
                    self._workers.remove(worker)
                    deaths[order.label] += 1
                    if deaths[order.label] < _TRIES:
                        waiting.appendleft(order)
                    else:
                        reason = f"its worker died {_TRIES} times, the last time {message}"
                        yield order, Ending(reason, is_usable=False)

    def _hand_out(self, waiting: deque[Order]) -> None:
        while waiting:
            free = next((worker for worker in self._workers if worker.order is None), None)
            if free is None and len(self._workers) == self._count:
                return
            if free is None:
                free = _Worker()
                self._workers.append(free)
            free.give(waiting.popleft())

    def _ready(self) -> list[_Worker]:
        busy = {worker.orders: worker for worker in self._workers if worker.order}
        ready = wait(list(busy))
        return [worker for pipe, worker in busy.items() if pipe in ready]


class _Worker:
    """One process, seen from outside."""

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

    def take(self) -> tuple[Order, Reached | Ending | str]:
        """Take what is there of the order that it works on; of a dead process how it died."""
        assert self.order is not None  # only busy ones are asked
        order = self.order
        try:
            message: Reached | Ending = self.orders.recv()
        except (EOFError, OSError):
            self.order = None
            return order, self._death()
        if isinstance(message, Ending):
            self.order = None
        return order, message

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self.orders.close()

    def _death(self) -> str:
        self._process.join()
        self.orders.close()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return "killed by SIGKILL, as happens where memory runs out: fewer --jobs need less"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
