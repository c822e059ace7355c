"""A backend that takes a while to make, as an engine does: `reconstructor.backend = "tests.system.late_backend"`."""

from __future__ import annotations

import time
from pathlib import Path

from nire.types import Geometry
from tests.system.slow_backend import SlowReconstructor


def create(geometry: Geometry, device: str, *, until: str) -> SlowReconstructor:
    """Make it once the file `until` is there."""
    while not Path(until).exists():
        time.sleep(0.01)
    return SlowReconstructor()
