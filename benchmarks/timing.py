"""Time a piece of work on a shared, noisy machine: many short runs, the median counts."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def median_s(work: Callable[[], object], *, runs: int, warm_up: int = 2) -> float:
    """Median duration of `work` over `runs` runs, seconds."""
    for _ in range(warm_up):
        work()
    durations = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations))
