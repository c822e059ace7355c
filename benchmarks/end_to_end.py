"""The whole pipeline over real processes: exposed frames a second, latency, private memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .material import write_recording
from .pipeline import EDI, NANO, Pipeline, Received, receive, running
from .report import Result

_RECORDED_S = 4.0
_MEASURED_S = 12.0
_ASKED_HZ = 4000.0
_LIVE_EDGE_HZ = 60.0
_FAST_EDGE_HZ = 1000.0
_MANY_HZ = 1000.0


@dataclass(frozen=True, slots=True)
class _Input:
    """What is replayed in a loop, at the speed it was recorded.

    Attributes:
        recording: its file.
        said: what it is, in a few words.
        overrides: of the config, after all others.
    """

    recording: Path
    said: str
    overrides: tuple[str, ...]

    def running(self, *overrides: str) -> AbstractContextManager[Pipeline]:
        return running(self.recording, [*overrides, *self.overrides], ["--loop"])


def run(*, recording: Path | None = None, overrides: Sequence[str] = ()) -> list[Result]:
    """Replay a recording in a loop and subscribe from here.

    Args:
        recording: with frames; None = 4 s of the synthetic camera.
        overrides: of the config, as --set takes them.
    """
    with tempfile.TemporaryDirectory() as folder:
        if recording is None:
            made = write_recording(Path(folder) / "bench.nire", _RECORDED_S)
            given = _Input(made, "346 x 260, 25 frames/s and 2.4 M events/s in", tuple(overrides))
        else:
            given = _Input(recording, f"{recording.name} in", tuple(overrides))
        return [*_upsample(given), *_deblur(given), *_live_edge(given), *_nano(given)]


def _upsample(given: _Input) -> list[Result]:
    with given.running(*EDI, 'plan.name="upsample"', f"plan.rate_hz={_ASKED_HZ}") as pipeline:
        received = receive(pipeline, "frame/upsample", seconds=_MEASURED_S)
    asked = f"{_ASKED_HZ:g} Hz asked for, {given.said}"
    return [
        Result("edi_exposed_fps", received.fps, "frames/s", asked + _losses(received)),
        Result("peak_private_mb_producer", pipeline.memory.peak_mb("producer"), "MB", "RssAnon, in the same run"),
        Result("peak_private_mb_consumer", pipeline.memory.peak_mb("consumer"), "MB", "RssAnon, in the same run"),
    ]


def _deblur(given: _Input) -> list[Result]:
    with given.running(*EDI, 'plan.name="deblur"') as pipeline:
        received = receive(pipeline, "frame/deblur", seconds=_MEASURED_S)
    return [
        _quantile("deblur_latency_ms_p50", received, 50, "frame received -> exposed frame published"),
        _quantile("deblur_latency_ms_p99", received, 99, f"of {len(received.headers)} frames" + _losses(received)),
    ]


def _live_edge(given: _Input) -> list[Result]:
    slow, fast = (_at_live_edge(given, rate_hz) for rate_hz in (_LIVE_EDGE_HZ, _FAST_EDGE_HZ))
    note = f"newest event received -> published, {slow.fps:.0f} frames/s of {_LIVE_EDGE_HZ:g}"
    asked = f"{_FAST_EDGE_HZ:g} Hz asked for"
    return [
        _quantile("live_edge_latency_ms_p50", slow, 50, note + _losses(slow)),
        Result("live_edge_exposed_fps", fast.fps, "frames/s", asked + _losses(fast)),
        _quantile("live_edge_fast_latency_ms_p50", fast, 50, asked),
    ]


def _at_live_edge(given: _Input, rate_hz: float) -> Received:
    asked = ('plan.name="upsample"', f"plan.rate_hz={rate_hz}", 'window.policy="live_edge"')
    with given.running(*EDI, *asked) as pipeline:
        return receive(pipeline, "frame/upsample", seconds=_MEASURED_S)


def _nano(given: _Input) -> list[Result]:
    """The network where many images are asked of each pair of captured ones, beside `edi`; and at the live edge."""
    received, edge = (_by_nano(given, *asked) for asked in ((_MANY_HZ, "pair"), (_LIVE_EDGE_HZ, "live_edge")))
    with given.running(*EDI, 'plan.name="upsample"', f"plan.rate_hz={_MANY_HZ}") as pipeline:
        by_edi = receive(pipeline, "frame/upsample", seconds=_MEASURED_S)
    last = received.headers[-1]
    note = f"{_MANY_HZ:g} Hz asked for, {given.said}, engine {last['engine']}"
    late = last["late_windows"] / max(1, last["window"] - received.headers[0]["window"] + last["late_windows"])
    return [
        Result("nano_exposed_fps", received.fps, "frames/s", note + _losses(received)),
        Result("nano_over_edi", received.fps / by_edi.fps, "", f"of the {by_edi.fps:.0f} frames/s of edi, same rate"),
        Result("nano_late_share", late, "", "of windows"),
        _quantile("nano_latency_ms_p50", received, 50, "newest packet received -> published"),
        _quantile("nano_latency_ms_p99", received, 99, f"of {len(received.headers)} frames"),
        Result("nano_live_edge_fps", edge.fps, "frames/s", f"{_LIVE_EDGE_HZ:g} Hz asked for" + _losses(edge)),
        _quantile("nano_live_edge_latency_ms_p50", edge, 50, "newest event received -> published"),
    ]


def _by_nano(given: _Input, rate_hz: float, policy: str) -> Received:
    asked = ('plan.name="upsample"', f"plan.rate_hz={rate_hz}", f'window.policy="{policy}"')
    with given.running(*NANO, *asked) as pipeline:
        # An engine that has to be made first takes its time.
        return receive(pipeline, "frame/upsample", seconds=_MEASURED_S, patience_s=300)


def _quantile(metric: str, received: Received, percent: float, note: str) -> Result:
    return Result(metric, float(np.percentile(received.latencies_ms, percent)), "ms", note)


def _losses(received: Received) -> str:
    last = received.headers[-1]
    return f"; lost {last['lost_events']} events, {last['lost_frames']} frames, {last['late_windows']} windows late"
