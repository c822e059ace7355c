"""Work in the background of a loop that must not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Thread(threading.Thread):
    """One that `is_anything_made` tells from others."""


def is_anything_made() -> bool:
    """Tell whether anything is being made in this process."""
    return any(isinstance(thread, _Thread) for thread in threading.enumerate())


class Background(Generic[T]):
    """Makes one thing in a thread of its own."""

    def __init__(self, make: Callable[[], T], *, name: str) -> None:
        """Begin.

        Args:
            make: what takes long; what it raises, `result` raises.
            name: of the thread.
        """
        self._make = make
        self._made: list[T] = []
        self._error: Exception | None = None
        self._thread = _Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """It is made, or could not be."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """What was made; waits for it.

        Raises:
            Exception: what making it has raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._made[0]

    def _run(self) -> None:
        try:
            self._made.append(self._make())
        except Exception as error:  # noqa: BLE001 - raised again by whoever asks for the result
            self._error = error
