"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_LINE_EVERY_S = 5.0


class Progress(Protocol):
    """Something that is told how far the work has come."""

    def at(self, done: float, total: float | None) -> None:
        """Report `done` of `total`, in any one unit; None where the end is unknown."""
        ...


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Show progress on stderr until the block ends."""
    if not sys.stderr.isatty():
        yield _Lines(label)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, bar.add_task(label, total=None))


class _Bar:
    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def at(self, done: float, total: float | None) -> None:
        self._bar.update(self._task, completed=done, total=total)


class _Lines:
    def __init__(self, label: str) -> None:
        self._label = label
        self._next_s = time.monotonic() + _LINE_EVERY_S

    def at(self, done: float, total: float | None) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _LINE_EVERY_S
        share = f"{100 * done / total:.0f} %" if total else "running"
        print(f"{self._label}: {share}", file=sys.stderr, flush=True)
