"""The rings, by each carrier: events a second from a producer process to a consumer that builds windows; losses."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

import numpy as np

from drivers.source import SourceInfo
from nire.backends import edi
from nire.types import EventBatch, Frame, Geometry
from stream.backends import warm_up
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
_EVENT_BYTES = 13


def run() -> list[Result]:
    """Measure the usual carrier, and ours where that is another: its metrics begin with its name."""
    usual = carriers.usual()
    copied = _memcpy_bytes_per_s()
    results = _measured(usual, "", copied)
    return results if usual == "seqlock" else [*results, *_measured("seqlock", "seqlock_", copied)]


def _measured(carrier: str, prefix: str, memcpy_bytes_per_s: float) -> list[Result]:
    """Send 34 M events/s and 25 frames/s in real time; the consumer builds and queries a window for each frame."""
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
            start = time.perf_counter()
            while not reader.ended and time.perf_counter() < start + 4 * _SECONDS:
                for _ in session.feed(reader.read(timeout_s=0.1)):
                    pass
            seconds = time.perf_counter() - start
            ours.send("done")
            received, lost, windows = session.counters.events, session.losses.events, session.counters.exposed
    finally:
        writer.join(10)
    per_second = received / max(seconds, _SECONDS)
    meanwhile = f"{windows / seconds:.1f} windows a second built and queried meanwhile"
    note = f"{carrier}: {_SECONDS:g} s at {_RATE_MEPS:g} M/s, {meanwhile}"
    return [
        Result(f"{prefix}events_per_s", per_second, "events/s", note),
        Result(f"{prefix}events_lost", float(lost), "events", f"of {received + lost:,}"),
        Result(f"{prefix}windows_per_s", windows / seconds, "windows/s", "of 25 frames a second"),
        Result(
            f"{prefix}memcpy_ratio",
            per_second * _EVENT_BYTES / memcpy_bytes_per_s,
            "x",
            "bytes carried over one core's memcpy",
        ),
    ]


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


def _memcpy_bytes_per_s() -> float:
    source = np.ones(1 << 26, np.uint8)
    target = np.empty_like(source)
    target[:] = source
    start = time.perf_counter()
    for _ in range(8):
        target[:] = source
    return 8 * source.nbytes / (time.perf_counter() - start)
