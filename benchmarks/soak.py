"""Hours in minutes: a recording looped through the real pipeline; memory must stay flat, losses must be counted."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .material import write_recording
from .pipeline import receive, running
from .report import Result

_LATENCY = "newest packet received -> published"


def run(*, minutes: float, recording: Path | None, overrides: Sequence[str] = ()) -> list[Result]:
    """Loop a recording for some minutes, at 400 exposed frames a second if nothing else is asked.

    Args:
        minutes: length of the run.
        recording: a real one; None = 4 s of the synthetic camera.
        overrides: of the config, as --set takes them.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = recording or write_recording(Path(folder) / "soak.nire", 4.0)
        with running(source, ["plan.rate_hz=400", *overrides], ["--loop"]) as pipeline:
            received = receive(pipeline, "frame/upsample", seconds=60 * minutes, settle_s=10)
        last = received.headers[-1]
        results = [
            Result("exposed_fps", received.fps, "frames/s", f"{minutes:g} minutes, engine {last['engine']}"),
            *(
                Result(f"latency_ms_p{percent}", float(np.percentile(received.latencies_ms, percent)), "ms", _LATENCY)
                for percent in (50, 99)
            ),
            Result("lost_events", last["lost_events"], "events"),
            Result("lost_frames", last["lost_frames"], "frames"),
            Result("late_windows", last["late_windows"], "windows"),
        ]
        for process in ("producer", "consumer"):
            samples = np.array([(t, mb) for t, mb in pipeline.memory.samples[process] if t > 20])
            growth = np.polyfit(samples[:, 0] / 60, samples[:, 1], 1)[0] if len(samples) > 2 else 0.0
            results += [
                Result(f"peak_private_mb_{process}", float(samples[:, 1].max()), "MB", "RssAnon"),
                Result(f"growth_mb_per_minute_{process}", float(growth), "MB/min", "slope after the first 20 s"),
            ]
    return results
