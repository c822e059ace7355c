"""Recordings: reading beside the fastest public readers in the same run, writing, an EVT3 file through the rings."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks.report import Result
from drivers.detect import open_recording
from drivers.hygiene import cleaned
from drivers.pacing import paced
from drivers.writing import begin_writing
from nire.types import EventBatch, Frame, Gap, SourcePacket
from stream.config import Config, load_config
from stream.recut import Recutter
from stream.ring import RingReader, RingWriter

_RATE_MEPS = 50
_SECONDS = 1.0
_RUNS = 7
_WIDTH, _HEIGHT = 1280, 720
_GROUP_WORDS = 10  # time high, time low, y, base, three vectors, y, two single events
_HEADERS = {
    "evt3": b"% evt 3.0\n% format EVT3;height=720;width=1280\n% geometry 1280x720\n% end\n",
    "evt2": b"% evt 2.0\n% format EVT2;height=720;width=1280\n% geometry 1280x720\n% end\n",
    "dat": b"% Data file containing CD events.\n% Version 2\n% Height 720\n% Width 1280\n\x0c\x08",
}


def run() -> list[Result]:
    """Read files of about 20 M events in turns with the other readers; carry an EVT3 file through the rings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        evt3 = folder / "a.raw"
        count = _write_evt3(evt3, seconds=_SECONDS)
        results = _ratio("evt3", evt3, {"faery": _faery("evt", evt3, "evt3")})
        results += _through_rings(evt3, count)
        for kind, write, module in (("evt2", _write_evt2, "evt"), ("dat", _write_dat, "dat")):
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
        return results + _ratio("aedat4", aedat4, others)


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
        with getattr(faery.extension, kind).Decoder(path, (_WIDTH, _HEIGHT), version) as decoder:
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


def _write_evt3(path: Path, *, seconds: float) -> int:
    """Write vectors and single events of an HD sensor at the given rate; return the number of events."""
    rng = np.random.default_rng(1)
    per_group = 2 + 32 / 4  # two single events, and a quarter of the bits of 12, 12 and 8
    groups = int(seconds * _RATE_MEPS * 1e6 / per_group)
    t_us = np.arange(groups) * (seconds * 1e6 / groups)
    ticks = t_us.astype(np.int64)
    masks = rng.integers(0, 1 << 32, groups, np.uint32) & rng.integers(0, 1 << 32, groups, np.uint32)
    words = np.empty((groups, _GROUP_WORDS), np.uint16)
    words[:, 0] = 0x8000 | (ticks >> 12) & 0xFFF
    words[:, 1] = 0x6000 | ticks & 0xFFF
    words[:, 2] = rng.integers(0, _HEIGHT, groups)
    words[:, 3] = 0x3000 | rng.integers(0, 2, groups) << 11 | rng.integers(0, _WIDTH - 32, groups)
    words[:, 4] = 0x4000 | masks & 0xFFF
    words[:, 5] = 0x4000 | masks >> 12 & 0xFFF
    words[:, 6] = 0x5000 | masks >> 24
    words[:, 7] = rng.integers(0, _HEIGHT, groups)
    for column in (8, 9):
        words[:, column] = 0x2000 | rng.integers(0, 2, groups) << 11 | rng.integers(0, _WIDTH, groups)
    with open(path, "wb") as file:
        file.write(_HEADERS["evt3"])
        words.tofile(file)
    return 2 * groups + int(np.bitwise_count(masks).sum())


def _places(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    t_us = np.arange(count, dtype=np.int64) // 30
    return t_us, rng.integers(0, _WIDTH, count), rng.integers(0, _HEIGHT, count), rng.integers(0, 2, count)


def _write_evt2(path: Path, count: int) -> None:
    t_us, x, y, p = _places(count)
    words = (p << 28 | (t_us & 0x3F) << 22 | x << 11 | y).astype(np.uint32)
    first = np.flatnonzero(np.diff(t_us >> 6, prepend=-1))  # of each time high
    path.write_bytes(
        _HEADERS["evt2"] + np.insert(words, first, 0x80000000 | (t_us[first] >> 6)).astype("<u4").tobytes()
    )


def _write_dat(path: Path, count: int) -> None:
    t_us, x, y, p = _places(count)
    records = np.stack([t_us, p << 28 | y << 14 | x], axis=1).astype("<u4")
    path.write_bytes(_HEADERS["dat"] + records.tobytes())


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


def _through_rings(path: Path, count: int) -> list[Result]:
    """Replay an EVT3 file in real time by a producer process; count what arrives."""
    name = f"bench-file-{os.getpid()}"
    config = load_config(None, [f"ring.peak_rate_meps={2 * _RATE_MEPS}"])
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    writer = context.Process(target=_replay, args=(name, path, config, theirs), daemon=True)
    writer.start()
    try:
        with RingReader(name, config.ring, wait_s=60) as reader:
            ours.send("go")
            start, cpu_start = time.perf_counter(), time.process_time()
            received = 0
            while not reader.ended and time.perf_counter() < start + 20 * _SECONDS:
                received += sum(len(p) for p in reader.read(timeout_s=0.1) if isinstance(p, EventBatch))
            seconds, reader_s = time.perf_counter() - start, time.process_time() - cpu_start
            ours.send("done")
            lost = reader.lost_events
            writer_s = ours.recv() if ours.poll(10) else float("nan")
    finally:
        writer.join(10)
    note = (
        f"{_SECONDS:g} s at {_RATE_MEPS} M/s, decoded, cleaned and cut on one core; {count - received:,} did not arrive"
    )
    return [
        Result("evt3_ring_events_per_s", received / seconds, "events/s", note),
        Result("evt3_ring_events_lost", float(lost), "events", f"of {count:,}"),
        # On a machine that has other work too, time of the clock says little; time of the core still does.
        Result("evt3_ring_writer_events_per_cpu_s", received / writer_s, "events/s", "decoded, cleaned, cut, written"),
        Result("evt3_ring_reader_events_per_cpu_s", received / reader_s, "events/s", "taken and counted"),
    ]


def _replay(name: str, path: Path, config: Config, orders: Connection) -> None:
    source = open_recording(path)
    with source, RingWriter(name, source.info.geometry, config.ring, info=source.info) as writer:
        next(iter(source))  # what is compiled is loaded before the clock runs
        orders.recv()
        start = time.process_time()
        for packet in _recut(paced(source, 1.0), config.ring.packet_us):
            writer.send(packet)
        writer.finish()
        orders.send(time.process_time() - start)
        orders.recv()  # unread packets go with their writer: stay until the reader has them all


def _recut(source: object, packet_us: int) -> Iterator[EventBatch | Frame | Gap]:
    cutter = Recutter(packet_us)
    for packet in cleaned(source):  # type: ignore[arg-type]
        if isinstance(packet, EventBatch | Frame | Gap):
            yield from cutter.feed(packet)
    yield from cutter.flush()
