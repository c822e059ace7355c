"""Films exposed together: as many as the device holds, found out once."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nire.errors import DeviceMemoryFull
from nire.types import Content, Query, Reconstructor

MOST_TOGETHER = 8
"""Films of a batch: enough to fill a GPU, few enough that the first leaves early."""

_log = logging.getLogger(__name__)


class Batches:
    """Cuts queries into batches for a backend."""

    def __init__(self, reconstructor: Reconstructor, *, refused: int = 0) -> None:
        """Begin with the usual size; `refused` batches were counted before."""
        self._reconstructor = reconstructor
        self._most = MOST_TOGETHER
        self._refused = refused

    @property
    def out_of_memory(self) -> int:
        """How many batches did not fit into the device's memory, here and in an engine that cuts batches itself."""
        return self._refused + int(getattr(self._reconstructor, "out_of_memory", 0))

    def expose(self, content: Content, waiting: Sequence[Query]) -> NDArray[np.uint8]:
        """Expose the first of some queries: as many as fit together, uint8 [1 or more, H, W, C].

        Args:
            content: of the backend.
            waiting: at least one.

        Raises:
            DeviceMemoryFull: not even one fits.
        """
        while True:
            batch = waiting[: self._most]
            try:
                return self._reconstructor.expose(content, batch)
            except DeviceMemoryFull as full:
                if len(batch) == 1:
                    raise
                self._refused += 1
                self._most = len(batch) // 2
                _log.warning("%s; from now on at most %d films are exposed together", full, self._most)
