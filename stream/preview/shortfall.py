"""Why a stream delivers fewer images than its plan asks for, in a sentence."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

_ENOUGH = 0.95
_LOOKED_BACK = 6
_COUNTS = ("reduced_queries", "late_windows", "windows", "exposed", "uptime_s", "newest_us")


class Shortfall:
    """Compares the newest statuses of a stream with each other."""

    def __init__(self) -> None:
        """Start without any."""
        self._seen: deque[dict[str, float]] = deque(maxlen=_LOOKED_BACK)
        self._newest: Mapping[str, Any] = {}

    def add(self, status: Mapping[str, Any]) -> None:
        """Note a status; they come once a second."""
        counts = {name: float(status[name]) for name in _COUNTS if isinstance(status.get(name), int | float)}
        if self._seen and counts.get("uptime_s", 0) < self._seen[-1].get("uptime_s", 0):
            self._seen.clear()  # another life counts from zero
        if _played(status) != _played(self._newest):
            self._seen.clear()  # a replay goes on at another speed
        self._seen.append(counts)
        self._newest = status

    def reason(self, rate_hz: float | None) -> str:
        """Say why the delivered rate is less than the asked one; "" where it is not, or not known yet.

        Args:
            rate_hz: delivered; None = unknown.
        """
        status = self._newest
        asked = status.get("asked_hz")
        if status.get("state") == "paused":
            return "Paused for everyone"
        if status.get("state") == "ended":
            return ""
        replay = status.get("replay")
        if isinstance(replay, Mapping) and replay.get("held"):
            return "The replay stands still, for everyone"
        if not isinstance(asked, int | float) or rate_hz is None or len(self._seen) < 2:
            return ""
        if rate_hz >= _ENOUGH * asked:
            return ""
        late, windows, reduced = (self._lately(name) for name in ("late_windows", "windows", "reduced_queries"))
        cost = _cost(status)
        slow = f": a window is built in {cost[0]:.0f} ms, frames are {cost[1]:.0f} ms apart" if cost else ""
        keeps_up = cost is not None and cost[0] < cost[1]
        if late > 0:
            busy = ": this machine is busy with other work too"
            return f"{late:.0f} of {late + windows:.0f} windows were skipped{busy if keeps_up else slow}"
        share = self._lately("exposed") / max(1.0, self._lately("exposed") + reduced) if reduced > 0 else 1.0
        pace = self._pace()
        if 0 < pace < min(_ENOUGH, share):
            return f"{_source(status)} comes at {100 * pace:.0f} % of its speed: this machine is too slow, or busy"
        if reduced > 0:
            return f"This machine has time for {100 * share:.0f} % of the images{'' if keeps_up else slow}"
        if not _rate(status, "captured") and not _rate(status, "events"):
            return "Nothing arrives from the source"
        if self._seen[0].get("newest_us") == 0:
            return ""  # it has just begun
        return "The source gives no frames and events around the missing moments"

    def _lately(self, name: str) -> float:
        """How much a count has grown over the last seconds."""
        return max(0.0, self._seen[-1].get(name, 0.0) - self._seen[0].get(name, 0.0))

    def _pace(self) -> float:
        """How fast the source's clock went over the last seconds, 1 = as it should; 0 where that is not known."""
        source = self._newest.get("source")
        begun = [seen for seen in self._seen if seen.get("newest_us", 0) > 0]  # before its first data it has no time
        if len(begun) < 2 or not isinstance(source, Mapping) or not source.get("live"):
            return 0.0
        gone_us, seconds = (begun[-1][name] - begun[0][name] for name in ("newest_us", "uptime_s"))
        return max(0.0, 1e-6 * gone_us / (seconds * _played(self._newest)[0])) if seconds > 0 else 0.0


def _played(status: Mapping[str, Any]) -> tuple[float, bool]:
    """How a replay is played: its speed, and whether it is held; 1 and False for anything else."""
    replay = status.get("replay")
    return (float(replay["speed"]), bool(replay.get("held"))) if isinstance(replay, Mapping) else (1.0, False)


def _source(status: Mapping[str, Any]) -> str:
    """Name the source as a sentence begins: of a synthetic camera without its scene."""
    source = status.get("source")
    name = str(source.get("name") or "") if isinstance(source, Mapping) else ""
    if name.startswith("synthetic camera"):
        return "The synthetic camera"
    return f"The source ({name})" if name else "The source"


def _cost(status: Mapping[str, Any]) -> tuple[float, float] | None:
    """What a window takes until it is built, and how far frames are apart, both in ms; None where not known."""
    stages = status.get("latency_ms")
    build = stages.get("build") if isinstance(stages, Mapping) else None
    median = build.get("p50") if isinstance(build, Mapping) else None
    captured = _rate(status, "captured")
    if not isinstance(median, int | float) or not captured:
        return None
    return float(median), 1000 / captured


def _rate(status: Mapping[str, Any], name: str) -> float:
    rates = status.get("rates")
    value = rates.get(name) if isinstance(rates, Mapping) else None
    return float(value) if isinstance(value, int | float) else 0.0
