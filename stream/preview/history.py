"""The last half minute of a stream, in few numbers: for the small curves on the page."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

SPAN_S = 30.0
_EVERY_S = 0.5
_LOSSES = ("lost_events", "lost_frames", "late_windows")


class History:
    """A sample every half second, the newest last."""

    def __init__(self) -> None:
        """Start empty."""
        self._samples: deque[tuple[float | None, float | None, float]] = deque(maxlen=round(SPAN_S / _EVERY_S))
        self._next_s = 0.0
        self._lost: float | None = None

    def tick(self, numbers: Mapping[str, Any], now_s: float) -> None:
        """Take a sample where it is time for one.

        Args:
            numbers: of `Numbers.summary`.
            now_s: monotonic time.
        """
        if now_s < self._next_s:
            return
        self._next_s = now_s + _EVERY_S
        latency = numbers["latency_ms"]
        counts = [numbers[name] for name in _LOSSES if numbers[name] is not None]
        lost = float(sum(counts)) if counts else None
        new = max(0.0, lost - self._lost) if lost is not None and self._lost is not None else 0.0
        self._lost = lost if lost is not None else self._lost
        self._samples.append((numbers["rate_hz"], None if latency is None else latency["total"], new))

    def curves(self) -> dict[str, list[float | None]]:
        """`rate_hz`, `latency_ms` and `lost` (events, frames and late windows since the sample before)."""
        rate, latency, lost = zip(*self._samples, strict=True) if self._samples else ((), (), ())
        return {"rate_hz": list(rate), "latency_ms": list(latency), "lost": list(lost)}
