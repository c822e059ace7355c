"""What a running stream says about itself, once a second and when asked (docs/wire-format.md, "Status")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from drivers.source import SourceInfo
from nire.types import Calibration, ExposedFrame, Stamps, WallClock
from stream.clock import now_ns
from stream.config import AUTO, Config
from stream.config_sections import PlanConfig
from stream.processes.board import Board, Row, State
from stream.processes.latency import RecentLatency
from stream.sockets.wire import wall_keys

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
    "epoch",
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
class Change:
    """How the newest wish for other settings went, of the source or of the method.

    Attributes:
        number: of the wish; 0 = there was none.
        state: "pending", "done" or "failed".
        error: why it failed.
    """

    number: int = 0
    state: str = "pending"
    error: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """What the stream is being recorded into.

    Attributes:
        path: of the file; "" = it is not recorded.
        error: why the last recording ended, where it was not asked to.
    """

    path: str = ""
    error: str = ""


@dataclass(slots=True)
class StatusKeeper:
    """All that the status is made of, held by the consumer.

    Attributes:
        config, info, board, row: of the stream, its source, its processes, and the consumer itself.
        publish, control: addresses as bound.
        camera: its name among several; "" = it is alone.
        share: tells what part of the time there is for it, among several.
        latencies, rates: measured.
        made_by: backend and engine of the newest frame.
        source_change, method_change: the newest wish for the source, and for the method.
        recording: what the stream is being recorded into.
        newest_us: device time of the newest data.
        frames: published in this life of the consumer.
        first_ns, last_ns: when the first and the newest of them were, host monotonic time.
    """

    config: Config
    info: SourceInfo
    board: Board
    row: Row
    publish: str
    control: str
    camera: str = ""
    share: Callable[[], float] = lambda: 1.0
    latencies: StageLatencies = field(default_factory=StageLatencies)
    rates: Rates = field(default_factory=Rates)
    made_by: tuple[str, str] = ("", "")
    source_change: Change = Change()
    method_change: Change = Change()
    recording: Recording = Recording()
    newest_us: float = 0.0
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
        """Images a second that the plan asks for; with one a captured frame, as many as are captured.

        A replay at a quarter of its speed brings a quarter of the plan's instants a second.
        """
        if plan.name in ("deblur", "unroll"):
            return self.rates.values["captured"]
        return plan.rate_hz * replay_speed(self.board)

    def line(self, plan: PlanConfig, paused: bool) -> str:
        """Sum up in a line: address, source, plan, asked and delivered rate, losses."""
        size = self.info.geometry
        source = f"{self.info.name} {size.width} x {size.height}"
        total = self.latencies.values(now_ns())["total"]["p50"]
        latency = "" if total is None else f", {total:.1f} ms"
        rate = f"{self.rates.values['exposed']:.0f} of {self.asked_hz(plan):.0f} images a second{latency}"
        by = f" by {self.made_by[0]}" if self.made_by[0] else ""
        where = f"{self.publish} {self.camera}".rstrip()
        return f"{where}: {source}, {plan.name}{by}, {'paused' if paused else rate}; {losses(self.row)}"

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
        backend_reason: str,
        covered_us: tuple[float, float] | None,
        paused: bool,
        clock: WallClock | None,
        now_ns: int,
    ) -> dict[str, Any]:
        """Everything, as plain values.

        Args:
            plan, calibration, backend_reason, covered_us, paused: the session's.
            clock: how device time maps to wall time at present; None = not known.
            now_ns: host monotonic time.
        """
        row, info = self.row, self.info
        return {
            "stream": self.config.stream_name,
            **({"camera": self.camera, "share": self.share()} if self.camera else {}),
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
                "has_frames": info.has_frames,
            },
            "backend": self.made_by[0] or self.config.reconstructor.backend,
            "engine": self.made_by[1],
            "backend_reason": backend_reason or self._reason(),
            "plan": plan.model_dump(mode="json"),
            "covered_us": None if covered_us is None else [float(t) for t in covered_us],
            "newest_us": self.newest_us,
            **_clock(clock, self.newest_us),
            "rates": dict(self.rates.values),
            "asked_hz": self.asked_hz(plan),
            "delivered_hz": self.rates.values["exposed"],
            "source_change": asdict(self.source_change) if self.source_change.number else None,
            "method_change": asdict(self.method_change) if self.method_change.number else None,
            "reconstructor": self.config.reconstructor.model_dump(mode="json"),
            "source_settings": dict(self.config.source.settings),
            "replay": _replay(self.board),
            "recording": _recording(self.recording, self.board),
            "events_ms": self.config.preview.events_ms,
            "latency_ms": self.latencies.values(now_ns),
            **{name: row[name] for name in _LOSSES},
            "events": row["events_in"],
            "frames": row["frames_in"],
            "windows": row["windows"],
            "built_ahead": row["built_ahead"],
            "fallback_windows": row["fallback_windows"],
            "exposed": row["exposed"],
            "calibration": _calibration(calibration),
            "processes": {name: _process(row) for name in self.board.names if (row := self.board.row(name))["lives"]},
        }

    def _reason(self) -> str:
        """Say why this backend answers, where it is not one that chooses."""
        if self.config.reconstructor.backend != AUTO:
            return "chosen by hand"
        return "nothing was measured yet" if self.info.has_frames else "the source has no frames"


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


def _clock(clock: WallClock | None, newest_us: float) -> dict[str, Any]:
    """A device time, its wall time, and the rate at which they go on; nothing where that is not known."""
    if clock is None:
        return {}
    told = wall_keys(clock.wall_at(newest_us), clock.uncertainty_at(newest_us))
    return {"device_us": newest_us, **told, "drift_ppm": (clock.rate - 1) * 1e6}


def replay_speed(board: Board) -> float:
    """How fast the device's time goes, > 0: 1 for a camera, and where nothing keeps time."""
    permille = board.row("producer")["replay_permille"] if "producer" in board.names else 0
    return permille / 1000 if permille else 1.0


def _replay(board: Board) -> Mapping[str, Any] | None:
    """Where a replay is that can be played otherwise; None for a camera, or where nothing keeps time."""
    if "producer" not in board.names or not (row := board.row("producer"))["replay_permille"]:
        return None
    return {
        "at_us": row["replay_at_us"],
        "length_us": row["replay_length_us"],
        "speed": replay_speed(board),
        "held": bool(row["replay_held"]),
    }


def _recording(recording: Recording, board: Board) -> Mapping[str, Any] | None:
    """What is being recorded, or why it is not any more; None where nothing is."""
    if not recording.path:
        return {"path": "", "error": recording.error} if recording.error else None
    row = board.row("recorder")
    seconds = (now_ns() - row["started_ns"]) * 1e-9 if row["started_ns"] else 0.0
    counts = {"events": row["events_in"], "frames": row["frames_in"]}
    return {"path": recording.path, "state": row.state.name.lower(), "seconds": seconds, **counts}


def _calibration(calibration: Calibration) -> Mapping[str, Any]:
    hot = calibration.hot_pixels
    return {
        "threshold_positive": float(calibration.threshold_positive),
        "threshold_negative": float(calibration.threshold_negative),
        "time_offset_us": float(calibration.time_offset_us),
        "hot_pixels": 0 if hot is None else int(np.count_nonzero(hot)),
        "misfit": calibration.misfit,
    }


def _process(row: Row) -> dict[str, Any]:
    return {"state": row.state.name.lower(), **{name: row[name] for name in _PROCESS_COUNTERS}}
