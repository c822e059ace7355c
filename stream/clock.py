"""Host time: monotonic nanoseconds, the same for all processes of this machine."""

from __future__ import annotations

import time

now_ns = time.monotonic_ns
"""Host monotonic time (CLOCK_MONOTONIC), comparable between processes on one machine."""
