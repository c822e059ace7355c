"""Wait for what another thread or process does: for the thing itself, as long as any machine may need for it."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 180.0
"""What takes longer never happens. It bounds a hang and says nothing about how fast a machine must be."""
PATIENCE_MS = round(1000 * PATIENCE_S)


def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Return as soon as `condition()` is true; fail after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)
