"""Recordings: reading beside the fastest public readers in the same run, and writing."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from drivers.detect import open_recording
from drivers.writing import begin_writing
from nire.types import EventBatch, SourcePacket

from .event_files import HEIGHT, WIDTH, write_dat, write_evt2, write_evt3, write_text
from .report import Result

_RATE_MEPS = 50
_SECONDS = 1.0
_RUNS = 7


def run() -> list[Result]:
    """Read files of 20 M events and more (text: 1 M) in turns with the other readers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        evt3 = folder / "a.raw"
        write_evt3(evt3, seconds=_SECONDS, rate_meps=_RATE_MEPS)
        results = _ratio("evt3", evt3, {"faery": _faery("evt", evt3, "evt3")})
        edges = folder / "edges.raw"
        write_evt3(edges, seconds=_SECONDS, rate_meps=_RATE_MEPS, edges=True)
        results += _ratio("evt3_edges", edges, {"faery": _faery("evt", edges, "evt3")})
        for kind, write, module in (("evt2", write_evt2, "evt"), ("dat", write_dat, "dat")):
            path = folder / kind
            write(path, 20_000_000)
            results += _ratio(kind, path, {"faery": _faery(module, path, {"evt2": "evt2", "dat": "dat2"}[kind])})
        aedat4 = folder / "a.aedat4"
        results.append(_write_aedat4(aedat4, evt3))
        others = {
            "faery": _faery("aedat", aedat4),
            "dv-processing": _dv_processing(aedat4),
            "aedat": _aedat(aedat4),
        }
        results += _ratio("aedat4", aedat4, others)
        text = folder / "events.txt"
        write_text(text, 1_000_000)
        return results + _ratio("text", text, {"numpy.loadtxt": lambda: len(np.loadtxt(text, skiprows=1))})


def _ratio(kind: str, path: Path, others: dict[str, Callable[[], int] | None]) -> list[Result]:
    """Events a second of ours, and our speed over that of the fastest other reader; medians of runs in turns."""
    readers: dict[str, Callable[[], int]] = {"ours": lambda: _ours(path)}
    readers |= {name: read for name, read in others.items() if read is not None}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    counts: set[int] = set()
    for turn in range(_RUNS + 1):
        for name, read in readers.items():
            start = time.perf_counter()
            counts.add(read())
            if turn:
                seconds[name].append(time.perf_counter() - start)
    if len(counts) != 1:
        raise AssertionError(f"the readers of {kind} disagree: {sorted(counts)} events")
    count = counts.pop()
    medians = {name: float(np.median(durations)) for name, durations in seconds.items()}
    note = f"{count:,} events; " + ", ".join(f"{name} {count / s / 1e6:.0f} M/s" for name, s in medians.items())
    results = [Result(f"{kind}_events_per_s", count / medians["ours"], "events/s", note)]
    if len(medians) > 1:
        fastest = min((name for name in medians if name != "ours"), key=lambda name: medians[name])
        results.append(
            Result(f"{kind}_ratio", medians[fastest] / medians["ours"], "x", f"speed over that of {fastest}")
        )
    return results


def _ours(path: Path) -> int:
    with open_recording(path) as source:
        return sum(len(packet) for packet in source if isinstance(packet, EventBatch))


def _optional(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _faery(kind: str, path: Path, version: str = "") -> Callable[[], int] | None:
    faery = _optional("faery")
    if faery is None:
        return None

    def read() -> int:
        if kind == "aedat":
            with faery.extension.aedat.Decoder(path) as decoder:
                return sum(len(packet) for track, packet in decoder if track.data_type == "events")
        with getattr(faery.extension, kind).Decoder(path, (WIDTH, HEIGHT), version) as decoder:
            return sum(len(packet["events"]) if kind == "evt" else len(packet) for packet in decoder)

    return read


def _dv_processing(path: Path) -> Callable[[], int] | None:
    dv = _optional("dv_processing")

    def read() -> int:
        reader = dv.io.MonoCameraRecording(str(path))  # type: ignore[union-attr]
        return sum(len(batch.numpy()) for batch in iter(reader.getNextEventBatch, None))

    return None if dv is None else read


def _aedat(path: Path) -> Callable[[], int] | None:
    aedat = _optional("aedat")

    def read() -> int:
        return sum(len(packet["events"]) for packet in aedat.Decoder(path) if "events" in packet)  # type: ignore[union-attr]

    return None if aedat is None else read


def _write_aedat4(path: Path, raw: Path) -> Result:
    """Write what an EVT3 file has in 0.4 s; only the writing is timed."""
    packets: list[SourcePacket] = []
    with open_recording(raw) as source:
        for packet in source:
            packets.append(packet)
            if isinstance(packet, EventBatch) and packet.watermark_us > 400_000:
                break
        start = time.perf_counter()
        with begin_writing(path, source.info.geometry, source.info) as writer:
            for packet in packets:
                writer.write(packet)
        seconds = time.perf_counter() - start
    count = sum(len(packet) for packet in packets if isinstance(packet, EventBatch))
    size = path.stat().st_size / count
    return Result("aedat4_written_per_s", count / seconds, "events/s", f"{count:,} events, {size:.1f} bytes each, LZ4")
