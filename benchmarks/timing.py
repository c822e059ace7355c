"""Time a piece of work on a shared, noisy machine: many short runs, the median counts."""

from __future__ import annotations

import statistics
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


def in_turns(*works: Callable[[], object], runs: int, warm_up: int = 2) -> list[float]:
    """Median duration of each work, seconds; they take turns, so that what slows the machine slows all of them."""
    taken: list[list[float]] = [[] for _ in works]
    for turn in range(runs + warm_up):
        for work, durations in zip(works, taken, strict=True):
            began = time.perf_counter()
            work()
            if turn >= warm_up:
                durations.append(time.perf_counter() - began)
    return [statistics.median(durations) for durations in taken]
