"""Work that lets other Python threads run (numba without the GIL, OpenCV, NumPy), done by several of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

WINDOWS_AT_ONCE = 2
"""Windows of a stream that are built side by side. More would wait: each goes on from the one before it."""

_T = TypeVar("_T")
_R = TypeVar("_R")
_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def let_go_of_cores() -> None:
    """Have torch's threads sleep soon when they wait, unless the environment says how; before torch is imported.

    They spin otherwise, after every operation: in the way of those that work side by side, which gain nothing then; and
    where another process has a core, a build of 0.1 s took 2 s. Spinning a little and then sleeping costs a twentieth
    where cores are quiet; sleeping at once cost half.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def windows_at_once(threads: int) -> int:
    """Tell how many windows are built side by side, each on its part of the threads (`threads // windows_at_once`).

    One thread a window gives the most images: what several threads share of one is less than what they do of several.

    Args:
        threads: of the CPU, 0 = as many as it has cores.
    """
    return min(WINDOWS_AT_ONCE, threads or os.cpu_count() or 1)


def side_by_side(work: Callable[[_T], _R], items: Iterable[_T], threads: int) -> list[_R]:
    """Do some work for each item.

    Args:
        work: must not call `side_by_side` itself.
        items: any number.
        threads: that do it; 1 = the caller alone.

    Returns:
        What the work gave, in the order of the items. What it raises is raised here.
    """
    return begin(work, items, threads)()


def begin(work: Callable[[_T], _R], items: Iterable[_T], threads: int) -> Callable[[], list[_R]]:
    """Begin what `side_by_side` does, and do something else meanwhile.

    Args:
        work, items, threads: as there. A single thread begins when it is asked for the end.

    Returns:
        What waits for the end, and gives what `side_by_side` gives; to be called once.
    """
    if threads == 1:
        return lambda: [work(item) for item in items]
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="side by side")
    begun = _pools[threads].map(work, items)
    return lambda: list(begun)


def bands(rows: int, threads: int) -> list[tuple[int, int]]:
    """Split rows into one band for each thread: first row, and the row after the last."""
    return [(rows * n // threads, rows * (n + 1) // threads) for n in range(threads)]
