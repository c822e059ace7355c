"""What a running stream says about itself, once a second and when asked (docs/wire-format.md, "Status")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from drivers.source import SourceInfo
from nire.types import Calibration, ExposedFrame, Stamps
from stream.clock import now_ns
from stream.config import Config
from stream.config_sections import PlanConfig
from stream.processes.board import Board, Row, State
from stream.processes.latency import RecentLatency

_RATES = {"exposed": "exposed", "captured": "frames_in", "windows": "windows", "events": "events_in"}
_LOSSES = ("lost_events", "lost_frames", "late_windows", "reduced_queries", "unanswered", "out_of_memory", "gaps")
_PROCESS_COUNTERS = (
    "pid",
    "lives",
    "events_in",
    "frames_in",
    "lost_events",
    "lost_frames",
    "gaps",
    "refused_orders",
    "private_kb",
)


class StageLatencies:
    """Recent latencies of each stage of an exposed frame's life."""

    def __init__(self) -> None:
        """Start empty."""
        self._stages = {name: RecentLatency() for name in ("build", "expose", "publish", "total")}

    def add(self, stamps: Stamps) -> None:
        """Count a published frame; one whose data came at an unknown time has no `build` and no `total`."""
        now = stamps.published_ns
        if stamps.received_ns:
            self._stages["build"].add(stamps.built_ns - stamps.received_ns, now)
            self._stages["total"].add(now - stamps.received_ns, now)
        self._stages["expose"].add(stamps.exposed_ns - stamps.built_ns, now)
        self._stages["publish"].add(now - stamps.exposed_ns, now)

    def values(self, now_ns: int) -> dict[str, dict[str, float | None]]:
        """p50 and p99 by stage, ms; None where nothing was counted lately."""
        return {
            name: {"p50": stage.quantile_ms(0.5, now_ns), "p99": stage.quantile_ms(0.99, now_ns)}
            for name, stage in self._stages.items()
        }


class Rates:
    """What a row counted per second, between the two newest ticks."""

    def __init__(self) -> None:
        """Start with zero."""
        self.values = dict.fromkeys(_RATES, 0.0)
        self._counts: dict[str, int] = {}
        self._at_ns = 0

    def tick(self, row: Row, now_ns: int) -> None:
        """Take the counts of this moment; call once a second."""
        counts = {name: row[counter] for name, counter in _RATES.items()}
        if self._counts:
            seconds = max(1, now_ns - self._at_ns) * 1e-9
            self.values = {name: (counts[name] - self._counts[name]) / seconds for name in counts}
        self._counts, self._at_ns = counts, now_ns


@dataclass(frozen=True, slots=True)
class SourceChange:
    """How the newest wish for other settings of the source went.

    Attributes:
        number: of the wish; 0 = there was none.
        state: "pending", "done" or "failed".
        error: why it failed.
    """

    number: int = 0
    state: str = "pending"
    error: str = ""


@dataclass(slots=True)
class StatusKeeper:
    """All that the status is made of, held by the consumer.

    Attributes:
        config, info, board, row: of the stream, its source, its processes, and the consumer itself.
        publish, control: addresses as bound.
        latencies, rates: measured.
        made_by: backend and engine of the newest frame.
        source_change: the newest wish for the source.
        frames: published in this life of the consumer.
        first_ns, last_ns: when the first and the newest of them were, host monotonic time.
    """

    config: Config
    info: SourceInfo
    board: Board
    row: Row
    publish: str
    control: str
    latencies: StageLatencies
    rates: Rates
    made_by: tuple[str, str] = ("", "")
    source_change: SourceChange = SourceChange()
    frames: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def count(self, frame: ExposedFrame) -> None:
        """Note a published frame."""
        self.latencies.add(frame.stamps)
        self.frames += 1
        self.last_ns = frame.stamps.published_ns
        self.first_ns = self.first_ns or self.last_ns
        self.made_by = (frame.backend, frame.engine)

    def asked_hz(self, plan: PlanConfig) -> float:
        """Images a second that the plan asks for; with one a captured frame, as many as are captured."""
        return self.rates.values["captured"] if plan.name in ("deblur", "unroll") else plan.rate_hz

    def line(self, plan: PlanConfig, paused: bool) -> str:
        """Sum up in a line: address, source, plan, asked and delivered rate, losses."""
        size = self.info.geometry
        source = f"{self.info.name} {size.width} x {size.height}"
        total = self.latencies.values(now_ns())["total"]["p50"]
        latency = "" if total is None else f", {total:.1f} ms"
        rate = f"{self.rates.values['exposed']:.0f} of {self.asked_hz(plan):.0f} images a second{latency}"
        return f"{self.publish}: {source}, {plan.name}, {'paused' if paused else rate}; {losses(self.row)}"

    def mean_rate(self, plan: PlanConfig) -> str:
        """Say the delivered and the asked rate over the whole run of this consumer."""
        seconds = (self.last_ns - self.first_ns) * 1e-9
        delivered_hz = (self.frames - 1) / seconds if seconds > 0 else 0.0
        return f"{delivered_hz:.0f} images a second, the plan asks for {self.asked_hz(plan):.0f}"

    def status(
        self,
        *,
        plan: PlanConfig,
        calibration: Calibration,
        covered_us: tuple[float, float] | None,
        paused: bool,
        newest_us: float,
        now_ns: int,
    ) -> dict[str, Any]:
        """Everything, as plain values.

        Args:
            plan, calibration, covered_us, paused: the session's.
            newest_us: device time of the newest data.
            now_ns: host monotonic time.
        """
        row, info = self.row, self.info
        return {
            "stream": self.config.stream_name,
            "state": _state(row, paused),
            "life": row["lives"],
            "uptime_s": (now_ns - row["started_ns"]) * 1e-9,
            "control": self.control,
            "publish": self.publish,
            "config": self.config.digest(),
            "source": {
                "name": info.name,
                "width": info.geometry.width,
                "height": info.geometry.height,
                "channels": info.geometry.channels,
                "live": info.live,
            },
            "backend": self.made_by[0] or self.config.reconstructor.backend,
            "engine": self.made_by[1],
            "plan": plan.model_dump(mode="json"),
            "covered_us": None if covered_us is None else [float(t) for t in covered_us],
            "newest_us": newest_us,
            "rates": dict(self.rates.values),
            "asked_hz": self.asked_hz(plan),
            "delivered_hz": self.rates.values["exposed"],
            "source_change": asdict(self.source_change) if self.source_change.number else None,
            "latency_ms": self.latencies.values(now_ns),
            **{name: row[name] for name in _LOSSES},
            "events": row["events_in"],
            "frames": row["frames_in"],
            "windows": row["windows"],
            "built_ahead": row["built_ahead"],
            "exposed": row["exposed"],
            "calibration": _calibration(calibration),
            "processes": {name: _process(self.board.row(name)) for name in self.board.names},
        }


def losses(row: Row) -> str:
    """What was lost and left out so far, in words."""
    return (
        f"lost: {row['lost_events']} events, {row['lost_frames']} frames; {row['late_windows']} windows late, "
        f"{row['reduced_queries']} queries reduced"
    )


def _state(row: Row, paused: bool) -> str:
    if row.state == State.ENDED:
        return "ended"
    if row.state in (State.READY, State.RUNNING):
        return "paused" if paused else "running"
    return "starting"


def _calibration(calibration: Calibration) -> Mapping[str, Any]:
    hot = calibration.hot_pixels
    return {
        "threshold_positive": float(calibration.threshold_positive),
        "threshold_negative": float(calibration.threshold_negative),
        "time_offset_us": float(calibration.time_offset_us),
        "hot_pixels": 0 if hot is None else int(np.count_nonzero(hot)),
    }


def _process(row: Row) -> dict[str, Any]:
    return {"state": row.state.name.lower(), **{name: row[name] for name in _PROCESS_COUNTERS}}
