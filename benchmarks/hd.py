"""720p live over real processes: images a second at several event rates, losses, latency, memory, the page, `nano`."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from drivers.source import SourceInfo
from nire.types import Geometry, Packet
from stream.blocks import most_bytes
from stream.config import load_config
from stream.rings.ring import event_memory_bytes, frame_memory_bytes
from stream.sockets.control import ControlClient

from .holes import Holes
from .material import larger, packets, write_packets
from .page import Shown, Stream, look, served
from .pipeline import EDI, NANO, Received, await_first, receive, running
from .report import Result
from .rig import write_rig

_GEOMETRY = Geometry(1280, 720)
_RATES_MEPS = (2.0, 10.0, 25.0)
_RIG_MEPS = 10.0
# More than all of the sensor sees of the scene: at half the threshold each pixel has twice as many events.
_DENSE_MEPS, _DENSE_THRESHOLD = 50.0, 0.1
_RECORDED_S = 1.2
_MEASURED_S = 10.0
_ASKED_HZ = 100.0
# As docs/performance.md advises for such a sensor: what comes within a second, and somewhat more than on average.
_RING_S, _HEADROOM = 1.0, 1.4
_PATIENCE_S = 300.0  # an engine that has to be made first takes its time
_ANSWER_MS = 20_000


@dataclass(frozen=True, slots=True)
class _Replay:
    """A recording of the larger sensor, to be replayed in a loop at its own speed.

    Attributes:
        path: its file.
        rate_meps: M events a second, on average.
        overrides: of the config.
        kind: in its metrics' names; "" = our own format.
    """

    path: Path
    rate_meps: float
    overrides: tuple[str, ...]
    kind: str = ""

    @property
    def name(self) -> str:
        """Of its metrics."""
        return f"hd_{self.kind}{self.rate_meps:g}m"

    @property
    def said(self) -> str:
        """What it is, in a few words."""
        return f"{self.rate_meps:.3g} M events/s and 25 frames/s in"


@dataclass(frozen=True, slots=True)
class _Ran:
    """What a subscriber got, how long the first image took, the memory of the processes, and the status at the end."""

    received: Received
    first_s: float
    peak_mb: dict[str, float]
    status: dict[str, Any]


def run(*, overrides: Sequence[str] = ()) -> list[Result]:
    """Replay the synthetic camera as a sensor of 1280 x 720 sees it, at several event rates, and subscribe from here.

    Args:
        overrides: of the config, as --set takes them.
    """
    info, stream = packets(_RECORDED_S)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for rate_meps in _RATES_MEPS:
            replay = _written(Path(folder) / "hd.nire", info, stream, rate_meps, overrides)
            results += _by_edi(replay)
            if rate_meps == _RATES_MEPS[0]:
                results += [*_by_nano(replay), *_on_the_page(replay)]
            replay.path.unlink()
        results += _by_edi(_written_apart(Path(folder), info, stream, overrides))
        info, stream = packets(_RECORDED_S, threshold=_DENSE_THRESHOLD)
        results += _by_edi(_written(Path(folder) / "hd.nire", info, stream, _DENSE_MEPS, overrides))
    return results


def _written(
    path: Path, info: SourceInfo, stream: Sequence[Packet], rate_meps: float, overrides: Sequence[str]
) -> _Replay:
    write_packets(path, replace(info, geometry=_GEOMETRY), larger(info, stream, _GEOMETRY, rate_meps=rate_meps))
    return _Replay(path, rate_meps, (*_asked(rate_meps), *overrides))


def _written_apart(folder: Path, info: SourceInfo, stream: Sequence[Packet], overrides: Sequence[str]) -> _Replay:
    """Write the events as EVT 3.0 with trigger edges and the frames as images, for the driver `hybrid`."""
    rig = write_rig(folder, _GEOMETRY, larger(info, stream, _GEOMETRY, rate_meps=_RIG_MEPS))
    driver = ('source.driver="hybrid"', f"source.settings={rig.settings()}")
    return _Replay(rig.events, _RIG_MEPS, (*driver, *_asked(_RIG_MEPS), *overrides), kind="evt3_")


def _asked(rate_meps: float) -> tuple[str, ...]:
    return (
        'plan.name="upsample"',
        f"plan.rate_hz={_ASKED_HZ}",
        f"ring.seconds={_RING_S}",
        f"ring.peak_rate_meps={_HEADROOM * rate_meps}",
    )


def _by_edi(replay: _Replay) -> list[Result]:
    ran, name = _ran(replay, EDI), replay.name
    ring = load_config(None, replay.overrides).ring
    rings = event_memory_bytes(ring) + frame_memory_bytes(ring, _GEOMETRY)
    windows = most_bytes(ring.peak_rate_meps, ring.seconds)
    return [
        Result(f"edi_{name}_fps", ran.received.fps, "frames/s", f"{_ASKED_HZ:g} Hz asked for, {replay.said}"),
        *_kept_up(f"edi_{name}", ran),
        Result(f"{name}_peak_private_mb_producer", ran.peak_mb["producer"], "MB", "RssAnon, in the same run"),
        Result(f"{name}_peak_private_mb_consumer", ran.peak_mb["consumer"], "MB", "RssAnon, in the same run"),
        Result(f"{name}_told_mb_rings", rings / 1e6, "MB", "shared, at most, as `check` tells"),
        Result(f"{name}_told_mb_windows", windows / 1e6, "MB", "of the consumer, at most, as `check` tells"),
    ]


def _by_nano(replay: _Replay) -> list[Result]:
    ran = _ran(replay, NANO)
    note = f"{_ASKED_HZ:g} Hz asked for, {replay.said}, engine {ran.received.headers[-1]['engine']}"
    return [
        Result("nano_hd_fps", ran.received.fps, "frames/s", note),
        Result(
            "nano_hd_first_image_s", ran.first_s, "s", "from the start of the command, the engine's making included"
        ),
        *_kept_up("nano_hd", ran),
        Result("nano_hd_peak_private_mb_consumer", ran.peak_mb["consumer"], "MB", "RssAnon, in the same run"),
    ]


def _kept_up(name: str, ran: _Ran) -> list[Result]:
    """What was lost, skipped and late."""
    headers, status = ran.received.headers, ran.status
    holes = Holes()
    for header in headers:
        holes.add(header)
    came, lost = (status[key] for key in ("events", "lost_events"))
    first, last = headers[0], headers[-1]
    late = last["late_windows"] - first["late_windows"]
    stamps_ms = [header["stamps"]["published_ns"] / 1e6 for header in headers]
    pause_ms = max((later - earlier for earlier, later in pairwise(stamps_ms)), default=0.0)
    latencies = ran.received.latencies_ms
    return [
        Result(f"{name}_lost_share", lost / max(1, came + lost), "", f"{lost:,} of {came + lost:,} events, all told"),
        Result(f"{name}_uncounted", holes.uncounted, "images", "missing, and no counter tells"),
        Result(f"{name}_late_windows", late / ran.received.seconds, "windows/s", "skipped, of 25 a second"),
        Result(f"{name}_longest_pause_ms", pause_ms, "ms", "between two images"),
        Result(f"{name}_latency_ms_p50", float(np.percentile(latencies, 50)), "ms", "newest packet -> published"),
        Result(f"{name}_latency_ms_p99", float(np.percentile(latencies, 99)), "ms", f"of {len(headers)} images"),
    ]


def _on_the_page(replay: _Replay) -> list[Result]:
    shown = Shown()
    with (
        running(replay.path, [*EDI, *replay.overrides], ["--loop"]) as pipeline,
        ControlClient(pipeline.control, timeout_ms=_ANSWER_MS) as control,
        served(pipeline) as server,
    ):
        await_first(pipeline, "frame/upsample", patience_s=_PATIENCE_S)
        asyncio.run(look(server, control, Stream(), shown))
    return [
        Result("page_hd_fps", shown.moments / shown.seconds, "moments/s", f"captured and exposed, {replay.said}"),
        Result("page_hd_cores", shown.cpu_s / shown.seconds, "cores", "that its server takes, of 1"),
        Result("page_hd_kilobytes_per_moment", shown.size / max(1, shown.moments) / 1000, "kB", "JPEG"),
    ]


def _ran(replay: _Replay, method: Sequence[str]) -> _Ran:
    began = time.perf_counter()
    with running(replay.path, [*method, *replay.overrides], ["--loop"]) as pipeline:
        await_first(pipeline, "frame/upsample", patience_s=_PATIENCE_S)
        first_s = time.perf_counter() - began
        received = receive(pipeline, "frame/upsample", seconds=_MEASURED_S, patience_s=_PATIENCE_S)
        with ControlClient(pipeline.control, timeout_ms=_ANSWER_MS) as control:
            status = control.ask("status")
        peak_mb = {process: pipeline.memory.peak_mb(process) for process in ("producer", "consumer")}
    return _Ran(received, first_s, peak_mb, status)
