"""The whole pipeline at 1280 x 720: exposed frames a second by `edi` and by `nano`, latency, losses, memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nire.types import Geometry

from .material import write_recording
from .pipeline import receive, running
from .report import Result

_GEOMETRY = Geometry(1280, 720)
_RECORDED_S = 1.0
_MEASURED_S = 12.0
_ASKED_HZ = 240.0
# What the recording brings, and a third more.
_RING = ("ring.peak_rate_meps=32", "ring.seconds=0.5")
_METHODS = {"edi": 'reconstructor.backend="edi"', "nano": 'reconstructor.backend="neural:nano"'}


def run(*, overrides: Sequence[str] = ()) -> list[Result]:
    """Replay 1 s of the synthetic camera, side by side to fill the sensor, in a loop.

    Args:
        overrides: of the config, as --set takes them.
    """
    results = []
    with tempfile.TemporaryDirectory() as folder:
        recording = write_recording(Path(folder) / "hd.nire", _RECORDED_S, _GEOMETRY)
        for method, backend in _METHODS.items():
            results += _measured(recording, method, (*_RING, backend, *overrides))
    return results


def _measured(recording: Path, method: str, asked: Sequence[str]) -> list[Result]:
    plan = ('plan.name="upsample"', f"plan.rate_hz={_ASKED_HZ}")
    with running(recording, [*asked, *plan], ["--loop"]) as pipeline:
        # An engine that has to be made first takes its time.
        received = receive(pipeline, "frame/upsample", seconds=_MEASURED_S, patience_s=300)
    last = received.headers[-1]
    losses = f"lost {last['lost_events']:,} events, {last['lost_frames']} frames, {last['late_windows']} windows late"
    note = f"{_ASKED_HZ:g} Hz asked for, 25 frames/s and 25 M events/s in; {losses}"
    memory = [
        Result(f"{method}_hd_private_mb_{process}", pipeline.memory.peak_mb(process), "MB", "RssAnon")
        for process in ("producer", "consumer")
    ]
    median_ms = float(np.median(received.latencies_ms))
    return [
        Result(f"{method}_hd_exposed_fps", received.fps, "frames/s", note),
        Result(f"{method}_hd_latency_ms_p50", median_ms, "ms", "newest packet received -> published"),
        *memory,
    ]
