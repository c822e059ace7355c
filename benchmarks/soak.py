"""Hours in minutes: a recording looped through the real pipeline; memory must stay flat, losses must be counted."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .holes import Holes
from .material import write_recording
from .pipeline import receive, running
from .report import Result

_LATENCY = "newest packet received -> published"
_WARM_UP_S = 60.0


def run(*, minutes: float, recording: Path | None = None, overrides: Sequence[str] = ()) -> list[Result]:
    """Loop a recording for some minutes, at 400 exposed frames a second if nothing else is asked.

    Args:
        minutes: length of the run.
        recording: a real one; None = 4 s of the synthetic camera.
        overrides: of the config, as --set takes them.
    """
    # What is kept for the first time takes memory: a short run is looked at from its middle on.
    warm_up_s = min(_WARM_UP_S, 30 * minutes)
    with tempfile.TemporaryDirectory() as folder:
        source = recording or write_recording(Path(folder) / "soak.nire", 4.0)
        asked = ["plan.rate_hz=400", "reconstructor.spares=1", "publish.high_water_mark=100000", *overrides]
        with running(source, asked, ["--loop"]) as pipeline:
            received = receive(
                pipeline, "frame/upsample", seconds=60 * minutes, settle_s=min(10, 10 * minutes), patience_s=180
            )
    last, holes = received.headers[-1], Holes()
    for header in received.headers:
        holes.add(header)
    results = [
        Result("exposed_fps", received.fps, "frames/s", f"{minutes:g} minutes, engine {last['engine']}"),
        *(
            Result(f"latency_ms_p{percent}", float(np.percentile(received.latencies_ms, percent)), "ms", _LATENCY)
            for percent in (50, 99)
        ),
        Result("lost_events", last["lost_events"], "events"),
        Result("lost_frames", last["lost_frames"], "frames"),
        Result("late_windows", last["late_windows"], "windows"),
        Result("unanswered", last["unanswered"], "images", "left out, and counted"),
        Result("uncounted", holes.uncounted, "images", "missing without a counter that tells"),
        Result("lives", last["life"], "", "of the consumer; 1 = it was never replaced"),
    ]
    for process in ("producer", "consumer"):
        samples = pipeline.memory.samples[process]
        warm = [sample for sample in samples if sample.at_s - samples[0].at_s >= warm_up_s]
        results += [
            Result(f"peak_private_mb_{process}", max(sample.private_mb for sample in samples), "MB", "RssAnon"),
            Result(f"growth_mb_per_minute_{process}", _slope([(s.at_s, s.private_mb) for s in warm]) * 60, "MB/min"),
            Result(f"growth_files_{process}", warm[-1].open_files - warm[0].open_files, "files", "open at the end"),
            Result(f"growth_threads_{process}", warm[-1].threads - warm[0].threads, "threads", "at the end"),
        ]
    return results


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Growth a second of the line nearest to some points; 0 where they are too few for one."""
    return float(np.polyfit(*np.array(points).T, 1)[0]) if len(points) > 2 else 0.0
