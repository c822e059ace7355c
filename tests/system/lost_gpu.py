"""A backend whose GPU fails once: `reconstructor.backend = "tests.system.lost_gpu"`, `weights` names its marker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nire.backends import device_errors, passthrough
from nire.types import Content, Geometry, Query

_CALLS_BEFORE = 5


class LosesGpu(passthrough.Passthrough):
    """Fails as torch reports it, after some windows, unless the marker says that this has happened."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker
        self._calls = 0

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        """Give the nearest frame, or fail."""
        self._calls += 1
        with device_errors("expose films"):
            if self._calls > _CALLS_BEFORE and not self._marker.exists():
                self._marker.touch()
                raise RuntimeError("CUDA error: unspecified launch failure")
            return super().expose(content, queries)


def create(geometry: Geometry, device: str, *, weights: str) -> LosesGpu:
    """Make it."""
    return LosesGpu(Path(weights))
