"""The rings, by each carrier: events from a producer process to a reader that builds windows, and stalls in between."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median

import numpy as np

from drivers.source import SourceInfo
from nire.backends import edi
from nire.types import EventBatch, Frame, Geometry
from stream.backends import warm_up
from stream.blocks import EVENT_BYTES
from stream.clock import now_ns
from stream.config import Config, load_config
from stream.config_sections import RingConfig
from stream.rings import carriers
from stream.rings.ring import RingReader, RingWriter
from stream.session.session import Session

from .report import Result

_GEOMETRY = Geometry(346, 260)
_INFO = SourceInfo("ring benchmark", _GEOMETRY, time_offset_us=0.0)
_RATE_MEPS = 34.0
_SECONDS = 6.0
_PACKET_US = 2000
_PERIOD_US = 40_000
_EXPOSURE_US = 10_000
_TEMPLATES = 16
_STALL_S = 0.3
_UP_TO_DATE_S = 0.1
# A reader copies an event out of the ring, and again where its window lies across two blocks. It has half of its time
# for that, and is to make good for what it missed, at twice the rate.
_COPIES, _HEADROOM = 2, 4


@dataclass(slots=True)
class Carried:
    """What became of one run.

    Attributes:
        sent, received, lost: events; `lost` as packets tell.
        disordered: events dated before the one that came before them.
        seconds: from the first packet to the last.
        windows: built and queried.
        catch_up_s: from the end of the stall until the oldest packet that came had waited for less than 0.1 s, or
            until the source had ended.
        memcpy_bytes_per_s: of one core, just before.
    """

    memcpy_bytes_per_s: float
    sent: int = 0
    received: int = 0
    lost: int = 0
    disordered: int = 0
    seconds: float = 0.0
    windows: int = 0
    catch_up_s: float = math.nan

    @property
    def events_per_s(self) -> float:
        """That reached a window, of those that were not lost."""
        return self.received / max(self.seconds, _SECONDS)

    @property
    def copied_share(self) -> float:
        """Bytes carried over what one core copies in the same time."""
        return self.events_per_s * EVENT_BYTES / self.memcpy_bytes_per_s


def run(runs: int = 1) -> list[Result]:
    """Measure the usual carrier, and ours where that is another: its metrics begin with its name.

    Args:
        runs: how often each carries its events.
    """
    usual = carriers.usual()
    names = {usual: ""} | ({} if usual == "seqlock" else {"seqlock": "seqlock_"})
    carried: dict[str, list[Carried]] = {name: [] for name in names}
    for _ in range(runs):
        for name, done in carried.items():
            done.append(_carry(name))
    return [result for name, prefix in names.items() for result in summary(name, prefix, carried[name])]


def summary(carrier: str, prefix: str, runs: Sequence[Carried]) -> list[Result]:
    """Sum several runs up: the median of what is fast or slow, the sum of what went wrong, the longest catching up."""

    def result(metric: str, over: Callable[[list[float]], float], values: list[float], unit: str, note: str) -> Result:
        return Result(f"{prefix}{metric}", float(over(values)), unit, note, tuple(values))

    sent, whole = sum(done.sent for done in runs), sum(not done.lost for done in runs)
    copied = [done.memcpy_bytes_per_s / 1e9 for done in runs]
    needed = _RATE_MEPS * 1e6 * EVENT_BYTES * _COPIES * _HEADROOM / 1e9
    share = [done.copied_share for done in runs]
    rate = [done.events_per_s for done in runs]
    lost = [float(done.lost) for done in runs]
    uncounted = [float(abs(done.sent - done.received - done.lost)) for done in runs]
    disordered = [float(done.disordered) for done in runs]
    catch_up = [1e3 * done.catch_up_s for done in runs]
    windows = [done.windows / done.seconds for done in runs]
    allows = f"needed: {needed:.1f} GB/s, two copies of an event and four times the time that they take"
    return [
        result("events_per_s", median, rate, "events/s", f"{carrier}: {_SECONDS:g} s at {_RATE_MEPS:g} M/s"),
        result("events_lost", sum, lost, "events", f"of {sent:,}; none in {whole} of {len(runs)} runs"),
        result("events_uncounted", sum, uncounted, "events", "neither received nor told as lost"),
        result("events_out_of_order", sum, disordered, "events", "dated before the one before them"),
        result("catch_up_ms", max, catch_up, "ms", f"the longest, after a stall of {_STALL_S:g} s"),
        result("windows_per_s", median, windows, "windows/s", "built and queried meanwhile, of 25 frames a second"),
        result("memcpy_ratio", median, share, "x", "bytes carried over one core's memcpy"),
        result("memcpy_gb_per_s", min, copied, "GB/s", "the least of those just before each run"),
        Result(f"{prefix}memcpy_allows", float(min(copied) >= needed), "1 = yes", allows),
    ]


def _carry(carrier: str) -> Carried:
    """Send 34 M events/s and 25 frames/s in real time; the reader builds a window for each frame, and stalls once."""
    carried = Carried(_memcpy_bytes_per_s())
    name = f"bench-{os.getpid()}"
    config = _config(carrier)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    writer = context.Process(target=_write, args=(name, config.ring, theirs), daemon=True)
    writer.start()
    try:
        with RingReader(name, config.ring, wait_s=30) as reader:
            reconstructor = edi.create(_GEOMETRY)
            warm_up(reconstructor, _GEOMETRY)
            session = Session(config, _INFO, reconstructor, freshest=True, clock=now_ns)
            ours.send("go")
            _read(reader, session, carried)
            ours.send("done")
            carried.sent = ours.recv()
    finally:
        writer.join(10)
    carried.received, carried.lost = session.counters.events, session.losses.events
    carried.windows = session.counters.exposed
    return carried


def _read(reader: RingReader, session: Session, carried: Carried) -> None:
    """Take what comes until the source has ended."""
    start = time.perf_counter()
    stalled, newest_us = math.inf, -1
    while not reader.ended and time.perf_counter() < start + 4 * _SECONDS:
        packets = reader.read(timeout_s=0.1)
        batches = [packet for packet in packets if isinstance(packet, EventBatch) and len(packet)]
        if batches and math.isnan(carried.catch_up_s):
            waited_s = (now_ns() - batches[0].received_ns) * 1e-9
            if stalled < math.inf and waited_s < _UP_TO_DATE_S:
                carried.catch_up_s = time.perf_counter() - stalled
        for batch in batches:
            t_us = batch.t_us
            carried.disordered += int(t_us[0] < newest_us) + int(np.count_nonzero(t_us[1:] < t_us[:-1]))
            newest_us = int(t_us[-1])
        for _ in session.feed(packets):
            pass
        if stalled == math.inf and time.perf_counter() > start + _SECONDS / 2:
            time.sleep(_STALL_S)
            stalled = time.perf_counter()
    carried.seconds = time.perf_counter() - start
    if math.isnan(carried.catch_up_s):
        carried.catch_up_s = time.perf_counter() - stalled


def _config(carrier: str) -> Config:
    return load_config(
        None,
        [
            "plan.name=deblur",
            f"ring.peak_rate_meps={_RATE_MEPS}",
            f"ring.packet_us={_PACKET_US}",
            f"ring.carrier={carrier}",
            "window.margin_us=0",
            "reconstructor.contrast_threshold=[0.2,0.2]",
        ],
    )


def _write(name: str, ring: RingConfig, orders: Connection) -> None:
    rng = np.random.default_rng(1)
    count = int(_RATE_MEPS * _PACKET_US)
    offsets = [np.sort(rng.integers(0, _PACKET_US, count)) for _ in range(_TEMPLATES)]
    columns = [
        (
            rng.integers(0, _GEOMETRY.width, count).astype(np.uint16),
            rng.integers(0, _GEOMETRY.height, count).astype(np.uint16),
            rng.integers(0, 2, count).astype(np.uint8),
        )
        for _ in range(_TEMPLATES)
    ]
    pixels = rng.integers(20, 200, (_GEOMETRY.height, _GEOMETRY.width, 1)).astype(np.uint8)
    with RingWriter(name, _GEOMETRY, ring, info=_INFO) as writer:
        orders.recv()
        start_ns = now_ns()
        for k in range(int(_SECONDS * 1e6) // _PACKET_US):
            t0_us = k * _PACKET_US
            end_us = t0_us + _PACKET_US
            time.sleep(max(0.0, (start_ns - now_ns()) * 1e-9 + end_us * 1e-6))
            x, y, p = columns[k % _TEMPLATES]
            writer.send(EventBatch(offsets[k % _TEMPLATES] + t0_us, x, y, p, end_us, received_ns=now_ns()))
            if end_us % _PERIOD_US == _EXPOSURE_US:
                index, exposed_us = end_us // _PERIOD_US, end_us - _EXPOSURE_US
                writer.send(Frame(index, pixels, exposed_us, end_us, received_ns=now_ns()))
        writer.finish()
        # Unread packets go with their writer: stay until the reader has them all.
        orders.recv()
        orders.send(writer.events_sent)


def _memcpy_bytes_per_s() -> float:
    source = np.ones(1 << 26, np.uint8)
    target = np.empty_like(source)
    target[:] = source
    start = time.perf_counter()
    for _ in range(8):
        target[:] = source
    return 8 * source.nbytes / (time.perf_counter() - start)
