"""The numbers beside the picture: rates and latencies, from the headers of the frames that are shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from stream.preview.history import History
from stream.preview.shortfall import Shortfall

_STAGES = (
    ("build", "received_ns", "built_ns"),
    ("expose", "built_ns", "exposed_ns"),
    ("publish", "exposed_ns", "published_ns"),
    ("total", "received_ns", "published_ns"),
)


class Rate:
    """Images a second of one topic, although only some of them are seen: `index` counts the rest."""

    def __init__(self, span_s: float = 2.0) -> None:
        """Measure over the last `span_s` seconds of publishing time."""
        self._span_ns = int(span_s * 1e9)
        self._seen: deque[tuple[int, int]] = deque()

    def add(self, index: int, published_ns: int) -> None:
        """Note a message; an index or a time that goes back means a new stream and starts again."""
        seen = self._seen
        if seen and (index <= seen[-1][0] or published_ns <= seen[-1][1]):
            seen.clear()
        seen.append((index, published_ns))
        while seen[-1][1] - seen[0][1] > self._span_ns:
            seen.popleft()

    def clear(self) -> None:
        """Start again."""
        self._seen.clear()

    @property
    def hz(self) -> float | None:
        """The rate, or None before two messages were seen."""
        if len(self._seen) < 2:
            return None
        (first, start_ns), (last, end_ns) = self._seen[0], self._seen[-1]
        return (last - first) * 1e9 / (end_ns - start_ns)


class Numbers:
    """Remembers the newest headers and sums them up."""

    def __init__(self) -> None:
        """Start empty."""
        self._exposed = Rate()
        self._captured = Rate()
        self._latency_ns: deque[tuple[int, ...]] = deque(maxlen=120)
        self._tag = ""
        self._newest: Mapping[str, Any] = {}
        self._delivered_hz: float | None = None
        self._captured_hz: float | None = None
        self._shortfall = Shortfall()
        self._history = History()

    def add_exposed(self, header: Mapping[str, Any]) -> None:
        """Note the header of an exposed frame."""
        if header["tag"] != self._tag:
            self._tag = header["tag"]
            self._exposed.clear()
            self._latency_ns.clear()
        stamps = header["stamps"]
        self._exposed.add(header["index"], int(stamps.get("published_ns", 0)))
        if stamps.get("received_ns"):
            self._latency_ns.append(tuple(int(stamps[end]) - int(stamps[start]) for _, start, end in _STAGES))
        self._newest = header

    def add_captured(self, header: Mapping[str, Any]) -> None:
        """Note the header of a captured frame."""
        self._captured.add(header["index"], int(header["stamps"].get("published_ns", 0)))

    def add_status(self, status: Mapping[str, Any]) -> None:
        """Note a status: only it knows how many images were left out, which have numbers all the same."""
        delivered = status.get("delivered_hz")
        self._delivered_hz = float(delivered) if isinstance(delivered, int | float) else None
        rates = status.get("rates")
        captured = rates.get("captured") if isinstance(rates, Mapping) else None
        self._captured_hz = float(captured) if isinstance(captured, int | float) else None
        self._shortfall.add(status)

    def tick(self, now_s: float) -> None:
        """Let the curves go on.

        Args:
            now_s: monotonic time.
        """
        self._history.tick(self._figures(), now_s)

    def summary(self) -> dict[str, Any]:
        """Sum up: `rate_hz`, `captured_hz`, `latency_ms` (stage -> median), losses; None where unknown.

        `reason` says why the rate is less than what is asked for, "" where it is not; `curves` are of half a minute.
        """
        figures = self._figures()
        reason = self._shortfall.reason(figures["rate_hz"])
        return {**figures, "reason": reason, "curves": self._history.curves()}

    def _figures(self) -> dict[str, Any]:
        newest = self._newest
        medians = np.median(np.array(self._latency_ns), axis=0) / 1e6 if self._latency_ns else None
        return {
            "rate_hz": self._exposed.hz if self._delivered_hz is None else self._delivered_hz,
            "captured_hz": self._captured.hz if self._captured_hz is None else self._captured_hz,
            "latency_ms": None
            if medians is None
            else {stage: float(ms) for (stage, _, _), ms in zip(_STAGES, medians, strict=True)},
            "lost_events": newest.get("lost_events"),
            "lost_frames": newest.get("lost_frames"),
            "late_windows": newest.get("late_windows"),
            "backend": newest.get("backend"),
            "engine": newest.get("engine"),
        }
