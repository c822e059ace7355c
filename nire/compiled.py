"""Compile a loop over numbers, and keep what was compiled for the next process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar, cast

import numba

_F = TypeVar("_F", bound=Callable[..., object])
_log = logging.getLogger(__name__)


def compiled(function: _F) -> _F:
    """Compile a function of numbers and numpy arrays at its first call (numba, no Python objects inside).

    What was compiled is kept in `__pycache__` beside the function's file; where that cannot be written in the user's
    cache folder, or in `$NUMBA_CACHE_DIR`; and where nothing can be written it is compiled again by each process, which
    takes seconds and is said in the log. It is thrown away when the function's file changes, but not when another does:
    functions and numbers that it uses belong into the same file.

    Args:
        function: its annotations are for people, the types are those of the first call.

    Returns:
        A function that is called in the same way. Indices are not checked inside.
    """
    # Other threads run meanwhile. A division by zero is infinite, as in numpy: a check would keep loops from vectors.
    try:
        return cast("_F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError as error:  # numba found no folder that can be written
        _log.info("%s is compiled anew in each process: %s", function.__name__, error)
        return cast("_F", numba.njit(nogil=True, error_model="numpy")(function))
