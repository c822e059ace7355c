"""Damaged recordings: packets that keep their types and one clear error, never a crash, a hang or a flood of memory."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from drivers.packets.cleaning import cleaned
from drivers.recordings import npz, prophesee_dat, prophesee_raw
from drivers.recordings.aedat4 import encode as aedat4_encode
from drivers.recordings.aedat4 import source as aedat4
from nire.errors import ConfigError, SourceError
from nire.types import EventBatch, Frame, ImuBatch, SourcePacket, Trigger
from tests.drivers.prophesee import evt_writer
from tests.drivers.recordings import aedat4_writer
from tests.fuzz.damage import EXAMPLES, damaged

MOST_BYTES = 640 << 20
"""Stated bound: two packets of AEDAT4 at their largest, 256 MiB, and what they decode to; the others stay far below."""
MOST_TIMES = 10_000.0
"""Stated bound: of the time that this thread takes for the undamaged file, which is small, on the same machine."""


def _aedat4(path: Path, compression: int) -> None:
    gray = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
    events = [(0, aedat4_writer.event_packet(range(n * 1000, n * 1000 + 60))) for n in range(6)]
    frames = [(1, aedat4_writer.frame_packet(gray, n * 2000, exposure=(n * 2000, n * 2000 + 900))) for n in range(2)]
    samples = np.ones((5, 3), np.float32)
    others = [
        (2, aedat4_encode.encode_triggers([Trigger(n * 900, n % 4, n % 2 == 0) for n in range(5)])),
        (3, aedat4_encode.encode_imu(ImuBatch(np.arange(5) * 800, samples, samples))),
    ]
    packets = [*events[:3], *frames, *others, *events[3:]]
    aedat4_writer.write(path, packets, compression=compression, kinds=("EVTS", "FRME", "TRIG", "IMUS"))


def _npz(path: Path, *, estimated: bool) -> None:
    t_us = np.arange(0, 4000, 9)
    columns = {"t_us": t_us, "x": t_us % 32, "y": t_us % 24, "p": t_us % 2, "frames": np.zeros((2, 24, 32), np.uint8)}
    if estimated:
        times = {"frame_t_us_estimated": np.array([0, 2000])}
    else:
        starts = np.array([0, 2000])
        times = {"frame_id": np.arange(2), "has_events": np.array([1, 1])}
        times |= {"exposure_start_us": starts, "exposure_end_us": starts + 1000}
    with open(path, "wb") as file:
        np.savez(file, **columns, **times)


def _raw(encoding: str) -> Callable[[Path], object]:
    edges = [(5200, 0, True), (5900, 6, False)]
    return lambda path: evt_writer.raw(path, encoding, evt_writer.sorted_events(700), edges)


FILES: dict[str, tuple[ModuleType, Callable[[Path], object]]] = {
    **{encoding: (prophesee_raw, _raw(encoding)) for encoding in evt_writer.HEADERS},
    "DAT": (prophesee_dat, lambda path: evt_writer.dat(path, evt_writer.sorted_events(500))),
    "DAT edges": (prophesee_dat, lambda path: evt_writer.dat_edges(path, [(n, n % 7, True) for n in range(300)])),
    "AEDAT4": (aedat4, lambda path: _aedat4(path, aedat4_writer.NONE)),
    "AEDAT4 LZ4": (aedat4, lambda path: _aedat4(path, aedat4_writer.LZ4)),
    "AEDAT4 ZSTD": (aedat4, lambda path: _aedat4(path, aedat4_writer.ZSTD)),
    "npz": (npz, lambda path: _npz(path, estimated=False)),
    "npz estimated": (npz, lambda path: _npz(path, estimated=True)),
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("kind", FILES)
def test_damaged_recording_gives_packets_and_one_clear_error(kind: str, folder: Path) -> None:
    module, write = FILES[kind]
    path = folder / "file"
    write(path)
    whole = path.read_bytes()
    most_s = most_seconds(module, path)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(damaged(whole))
    def hunt(data: bytes) -> None:
        path.write_bytes(data)
        look(module, path, most_s)

    hunt()


def most_seconds(module: ModuleType, path: Path) -> float:
    """Read an undamaged file, which has no error; say how long a damaged one may take."""
    read(module, path)  # what is loaded or compiled once is there from now on
    return MOST_TIMES * max(measured(module, path)[0] for _ in range(3))


def look(module: ModuleType, path: Path, most_s: float) -> None:
    """Read a file as the system does, within bounds; its one clear error is as good as its end."""
    seconds, peak = measured(module, path)
    assert peak < MOST_BYTES, f"{peak:,} bytes"
    assert seconds < most_s


def measured(module: ModuleType, path: Path) -> tuple[float, int]:
    """Read a file to its end or its error; tell the seconds of this thread, and the peak of memory in bytes."""
    tracemalloc.start()
    start = time.thread_time()
    try:
        with contextlib.suppress(SourceError, ConfigError):
            read(module, path)
    finally:
        seconds, peak = time.thread_time() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return seconds, peak


def read(module: ModuleType, path: Path) -> None:
    """Tell the kind, check each packet, and pass them through the cleaning."""
    module.recognise(b"" if path.is_dir() else path.read_bytes()[:4096], path)
    with module.open_source(path) as source:
        check_info(source.info.geometry)
        with contextlib.suppress(SourceError):
            for packet in source:
                check(packet)
        for _ in cleaned(source):
            pass


def check_info(geometry: object) -> None:
    """A sensor has a size that rings can be made for."""
    width, height = geometry.width, geometry.height  # type: ignore[attr-defined]
    assert 0 < width <= 1 << 16
    assert 0 < height <= 1 << 16


def check(packet: SourcePacket) -> None:
    """Types and shapes are those of the contract, also in what a damaged file gives."""
    if isinstance(packet, EventBatch):
        columns = (packet.t_us, packet.x, packet.y, packet.p)
        assert [c.dtype for c in columns] == [np.int64, np.uint16, np.uint16, np.uint8]
        assert all(c.shape == (len(packet),) for c in columns)
        assert not len(packet) or packet.p.max() <= 1
        assert isinstance(packet.watermark_us, int)
        assert abs(packet.watermark_us) < 1 << 63
    elif isinstance(packet, Frame):
        assert packet.pixels.dtype == np.uint8
        assert packet.pixels.ndim == 3
        assert packet.pixels.shape[2] in (1, 3)
        assert -(1 << 63) <= packet.exposure_start_us <= packet.exposure_end_us < 1 << 63
    elif isinstance(packet, ImuBatch):
        assert packet.accelerometer_mps2.shape == packet.gyroscope_radps.shape == (len(packet.t_us), 3)
    elif isinstance(packet, Trigger):
        assert abs(packet.t_us) < 1 << 63
