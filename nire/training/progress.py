"""How a run tells where it is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter:
    """Progress of one run, for people; a context manager."""

    def __init__(self, console: Console, *, done: int, total: int, every: int, silent: bool = False) -> None:
        """Prepare.

        Args:
            console: where to.
            done, total: iterations, before and after the run.
            every: iterations between lines where there is no terminal.
            silent: of processes that do not lead.
        """
        self._console = console
        self._total, self._every, self._silent = total, every, silent
        self._since = (time.monotonic(), done)
        self._bar: Progress | None = None
        if console.is_terminal and not silent:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task("training", total=total, completed=done)

    def __enter__(self) -> Reporter:
        """Show the bar, if there is one."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def step(self, iteration: int, loss: float, rate: float) -> None:
        """Tell of one finished iteration: its loss and learning rate."""
        if self._bar is not None:
            self._bar.update(self._task, completed=iteration, description=f"loss {loss:.5f}")
        elif iteration % self._every == 0:
            now, (then, before) = time.monotonic(), self._since
            speed = (iteration - before) / max(now - then, 1e-9)
            self._since = (now, iteration)
            left = (self._total - iteration) / max(speed, 1e-9) / 60
            self.say(
                f"iteration {iteration}/{self._total}  loss {loss:.5f}  learning rate {rate:.2e}  "
                f"{speed:.2f} iterations/s  {left:.0f} minutes left"
            )

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if not self._silent:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
