"""How much comes in: through a real producer and the rings, live from DV's network, and from an EVT3 file."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from drivers.detect import open_recording
from drivers.sdk.dv_packets import missing_sdk
from drivers.source import SourceInfo
from drivers.writing import begin_writing
from nire.types import EventBatch
from stream.sources import SourceOrder

from .carriage import COLUMNS, Carried, Digest, carry
from .event_files import write_evt3
from .material import packets
from .ports import free_address
from .report import Result

_DV_MEPS = 12.0  # what a DAVIS346 sends at its limit
_EVT3_MEPS = 50.0
_SECONDS = 5.0
_BATCH_EVENTS = 8192


def run(*, recording: Path | None = None) -> list[Result]:
    """Take 12 M events/s from a DV network writer, and 50 M events/s and as many as go from an EVT3 file.

    Each is timed from the first packet that a reader of the rings gets to its last; it counts and digests them.

    Args:
        recording: whose events the DV network writer serves; None = 1 s of the synthetic camera.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [*_from_dv(Path(folder) / "served.aedat4", recording), *_from_evt3(Path(folder) / "a.raw")]


def _from_dv(path: Path, recording: Path | None) -> list[Result]:
    """Serve a recording by a process of its own, as DV does, so fast that it has 12 M events/s, round after round."""
    if missing := missing_sdk():
        print(f"dv: not measured without {missing}", file=sys.stderr)
        return []
    sent = _write_fast(path, *_events_of(recording))
    address = free_address()
    command = [sys.executable, "-m", f"{__package__}.dv_server", str(path), address.rpartition(":")[2]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        if server.stdout is None or server.stdin is None or server.stdout.readline() != "ready\n":
            raise RuntimeError("the process with the DV network writer has ended before it served")
        play = server.stdin

        def begin() -> None:
            print("play", file=play, flush=True)

        overrides = ['source.driver="dv_network"', f'source.settings={{events="{address}"}}']
        got = carry(overrides, SourceOrder(), events=sent.events, watched={"server": server.pid}, on_running=begin)
        served = json.loads(server.communicate()[0])
    offered_per_s = served["events"] / served["seconds"]
    note = f"a dv.io.NetworkWriter over TCP, {served['seconds']:.1f} s, {served['latest_ms']:.0f} ms late at worst"
    return [
        Result("dv_offered_events_per_s", offered_per_s, "events/s", note),
        *_results("dv", sent, got, offered_per_s),
    ]


def _from_evt3(path: Path) -> list[Result]:
    """Replay a file in real time, and as fast as its readers take it."""
    write_evt3(path, seconds=_SECONDS, rate_meps=_EVT3_MEPS)
    sent, start_s = Digest(), time.perf_counter()
    with open_recording(path) as source:
        for packet in source:
            if isinstance(packet, EventBatch):
                sent.add(packet)
    alone_per_s = sent.events / (time.perf_counter() - start_s)
    overrides = [f"ring.peak_rate_meps={2 * _EVT3_MEPS}"]
    paced = carry(overrides, SourceOrder(path), events=sent.events)
    fast = carry(overrides, SourceOrder(path, math.inf), events=sent.events)
    return [
        *_results("evt3", sent, paced, sent.events / _SECONDS),
        *_results("evt3_fast", sent, fast, alone_per_s),
    ]


def _results(name: str, sent: Digest, got: Carried, offered_per_s: float) -> list[Result]:
    lost = sent.events - got.digest.events
    wrong = sum(mine != theirs for mine, theirs in zip(got.digest.columns, sent.columns, strict=True))
    of = f"of {offered_per_s / 1e6:.1f} M/s"
    of += (
        ", what decoding and digesting alone reach"
        if name == "evt3_fast"
        else f"; {got.behind_ms:.0f} ms behind at worst"
    )
    return [
        Result(
            f"{name}_taken_events_per_s", got.events_per_s, "events/s", f"in {got.seconds:.1f} s; cores: {got.shares}"
        ),
        Result(f"{name}_taken_ratio", got.events_per_s / offered_per_s, "x", of),
        Result(
            f"{name}_events_lost",
            float(lost),
            "events",
            f"of {sent.events:,}; {got.lost:,} in the rings; gaps: {got.losses}",
        ),
        Result(f"{name}_columns_differ", float(wrong), "columns", f"of {', '.join(COLUMNS)}, by CRC-32"),
    ]


def _events_of(recording: Path | None) -> tuple[SourceInfo, list[EventBatch]]:
    if recording is None:
        info, found = packets(1.0)
        return info, [packet for packet in found if isinstance(packet, EventBatch) and len(packet)]
    with open_recording(recording) as source:
        return source.info, [packet for packet in source if isinstance(packet, EventBatch) and len(packet)]


def _write_fast(path: Path, info: SourceInfo, events: list[EventBatch]) -> Digest:
    """Write rounds of the events; time is drawn together until there are 12 M a second, and shifted by the round."""
    t_us, x, y, p = (np.concatenate([getattr(batch, name) for batch in events]) for name in COLUMNS)
    round_us = len(t_us) / _DV_MEPS
    quick_us = (t_us - t_us[0]) * (round_us / (t_us[-1] - t_us[0] + 1))
    digest = Digest()
    with begin_writing(path, info.geometry, info) as writer:
        for played in range(round(_SECONDS * 1e6 / round_us)):
            now_us = t_us[0] + (quick_us + played * round_us).astype(np.int64)
            for start in range(0, len(now_us), _BATCH_EVENTS):
                part = slice(start, start + _BATCH_EVENTS)
                batch = EventBatch(now_us[part], x[part], y[part], p[part], int(now_us[part][-1]))
                digest.add(batch)
                writer.write(batch)
        # Packets are cut when the clock has passed their period: one more event, which nobody waits for, makes it pass.
        later_us = now_us[-1:] + 4000
        writer.write(EventBatch(later_us, x[-1:], y[-1:], p[-1:], int(later_us[0])))
    return digest
