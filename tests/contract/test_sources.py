"""What every source must keep, whatever it reads: order, promises, types, repetition, and no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivers.cameras.hybrid.source import open_source as open_hybrid
from drivers.cameras.synthetic import open_source
from drivers.detect import open_recording
from drivers.packets.playback import looped, paced
from drivers.source import Source
from nire.types import EventBatch, Frame, Gap, SourcePacket
from tests.contract import live_stubs
from tests.drivers.cameras.hybrid.rig import build
from tests.drivers.packets.made import column_digests
from tests.drivers.prophesee import evt_writer
from tests.drivers.recordings import (
    aedat4_writer,
    aedat_files,
    hdf5_files,
    image_folders,
    mat_files,
    metavision_files,
    ros_files,
    text_files,
    videos,
)
from tests.golden import example

Opener = Callable[[Path, Callable[[], Path]], Source]
SMALL = {"width": 64, "height": 48, "seconds": 0.15}


def _aedat4(folder: Path) -> Path:
    path = folder / "small.aedat4"
    image = np.zeros((24, 32), np.uint8)
    packets = [(0, aedat4_writer.event_packet(range(n * 1000, n * 1000 + 500))) for n in range(50)]
    packets += [(1, aedat4_writer.frame_packet(image, n * 20_000, length_us=9_000)) for n in range(2)]
    aedat4_writer.write(path, packets)
    return path


def _npz(folder: Path) -> Path:
    path = folder / "small.npz"
    t_us = np.concatenate([np.arange(0, 10_000, 7), np.arange(15_000, 25_000, 7)])
    columns = {"x": t_us % 32, "y": t_us % 24, "p": t_us % 2}
    np.savez(
        path,
        frames=np.zeros((3, 24, 32), np.uint8),
        frame_id=np.arange(3),
        has_events=np.array([1, 1, 0]),
        exposure_start_us=np.array([0, 15_000, -1]),
        exposure_end_us=np.array([10_000, 25_000, -1]),
        t_us=t_us,
        **columns,
    )
    return path


def _hdf5(folder: Path) -> Path:
    pytest.importorskip("h5py")
    return hdf5_files.write_common(folder / "a.h5")


def _aedat2(folder: Path) -> Path:
    words = [aedat_files.davis_event(n * 10, n % 346, n % 260) for n in range(1000)]
    words += aedat_files.davis_frame(np.full((260, 346), 200), 11_000, 20_000)
    words += [aedat_files.davis_event(30_000 + n * 10, n % 346, n % 260) for n in range(100)]
    return aedat_files.write_2(folder / "a.aedat", words)


def _aedat3(folder: Path) -> Path:
    frames = [aedat_files.frame_3(np.zeros((260, 346, 1), np.uint8), t, t + 500) for t in (0, 1000)]
    packets = [aedat_files.packet_3(2, frames)]
    for n in range(9):
        packets.append(aedat_files.packet_3(1, [aedat_files.event_3(n * 200 + k, k, k) for k in range(100)]))
    return aedat_files.write_3(folder / "b.aedat", packets)


def _prophesee(encoding: str) -> Opener:
    edges = [(5200, 0, True), (5900, 6, False)]

    def write(path: Path) -> Path:
        events = evt_writer.sorted_events(4000)
        if encoding == "DAT edges":
            return evt_writer.dat_edges(path, edges)
        return evt_writer.dat(path, events) if encoding == "DAT" else evt_writer.raw(path, encoding, events, edges)

    return lambda folder, _: open_recording(write(folder / "small"))


def _ros(kind: str) -> Opener:
    def write(folder: Path, _: Callable[[], Path]) -> Source:
        pytest.importorskip("rosbags")
        return open_recording(ros_files.KINDS[kind](folder))

    return write


def _shared(name: str) -> Opener:
    return lambda _, shared: open_recording(shared() / "recordings" / name)


SOURCES: dict[str, Opener] = {
    "synthetic": lambda *_: open_source(live=False, **SMALL),
    "synthetic live": lambda *_: open_source(live=True, **SMALL),
    "synthetic rolling": lambda *_: open_source(live=False, row_delay_us=150, **SMALL),
    "synthetic ideal without frames": lambda *_: open_source(live=False, noise="ideal", frame_rate_hz=0, **SMALL),
    "recording": lambda folder, _: open_recording(example.write_recording(folder / "a.nire")),
    "aedat4": lambda folder, _: open_recording(_aedat4(folder)),
    "npz": lambda folder, _: open_recording(_npz(folder)),
    "metavision hdf5": lambda folder, _: open_recording(metavision_files.write(folder / "small")),
    **{encoding: _prophesee(encoding) for encoding in (*evt_writer.HEADERS, "DAT", "DAT edges")},
    "aedat 2": lambda folder, _: open_recording(_aedat2(folder)),
    "aedat 3": lambda folder, _: open_recording(_aedat3(folder)),
    "hdf5": lambda folder, _: open_recording(_hdf5(folder)),
    "text": lambda folder, _: open_recording(text_files.write_folder(folder / "text")),
    "text zipped": lambda folder, _: open_recording(text_files.zipped(text_files.write_folder(folder / "text"))),
    **{kind: _ros(kind) for kind in ros_files.KINDS},
    "mat pairs": lambda folder, _: open_recording(mat_files.write(folder / "pairs")),
    "image folder": lambda folder, _: open_recording(image_folders.write(folder / "images")),
    "video": lambda folder, _: open_recording(videos.write(folder / "a.avi", videos.sliding())),
    "paced": lambda folder, _: paced(open_recording(example.write_recording(folder / "a.nire")), 2.0),
    "looped": lambda folder, _: looped(lambda: open_recording(example.write_recording(folder / "a.nire")), 3),
    "davis346": lambda *_: live_stubs.davis346(),
    "davis346 colour": lambda *_: live_stubs.davis346(color=True),
    "neuromorphic davis346": lambda *_: live_stubs.neuromorphic("davis346"),
    "neuromorphic evk4": lambda *_: live_stubs.neuromorphic("evk4"),
    "metavision": lambda *_: live_stubs.metavision(),
    "metavision raw": lambda folder, _: live_stubs.metavision(folder / "a.raw"),
    "looped aedat4": lambda folder, _: looped(lambda: open_recording(_aedat4(folder)), 2),
    "hybrid": lambda folder, _: open_hybrid(**build(folder, count=9, lost=((4, True),)).settings()),
    "real emlb": _shared("emlb_demo-01_davis346.aedat4"),
    "real tonic": _shared("tonic_dvxplorer_320x240_no_frames.aedat4"),
    "real eslnet aedat4": _shared("eslnet_cups_davis346_converted_first15.aedat4"),
    "real eslnet npz": _shared("eslnet_cups_davis346.npz"),
    "real aedat 2": _shared("pyaedattools_IMU_translBoxes_davis240c.aedat"),
    "real mat pairs": _shared("eslnet_cups_original_sample"),
    "real evbench": _shared("evbench_seq_0001_davis240b.npz"),
    "real evt2": _shared("faery_evt2_640x480.raw"),
    "real evt3": _shared("ecc_evt3_trigger_1280x720.raw"),
    "real evt3 with edges": _shared("ecp_test_events_1_640x480_evt3_trig.raw"),
}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.real] * name.startswith("real")) for name in SOURCES])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return SOURCES[request.param](tmp_path, lambda: request.getfixturevalue("shared_data"))


def _packets(source: Source) -> list[SourcePacket]:
    with source:
        return list(source)


def test_events_are_sorted_and_never_before_the_watermark(source: Source) -> None:
    watermark = -np.inf
    for packet in _packets(source):
        if isinstance(packet, EventBatch):
            assert not len(packet) or packet.t_us[0] >= watermark
            assert (np.diff(packet.t_us) >= 0).all()
            assert packet.watermark_us >= watermark
            watermark = packet.watermark_us
            assert not len(packet) or packet.t_us[-1] <= watermark


def test_frame_comes_after_the_events_of_its_exposure(source: Source) -> None:
    watermark = -np.inf
    last_index = -1
    for packet in _packets(source):
        if isinstance(packet, EventBatch):
            watermark = packet.watermark_us
        elif isinstance(packet, Frame):
            assert packet.last_us <= watermark
            assert packet.index > last_index
            last_index = packet.index


def test_columns_have_the_types_of_the_contract(source: Source) -> None:
    with source:
        geometry, has_frames = source.info.geometry, source.info.has_frames
        for packet in source:
            if isinstance(packet, EventBatch):
                columns = (packet.t_us, packet.x, packet.y, packet.p)
                assert [c.dtype for c in columns] == [np.int64, np.uint16, np.uint16, np.uint8]
                assert all(c.flags.c_contiguous and c.flags.aligned and c.shape == (len(packet),) for c in columns)
                assert isinstance(packet.watermark_us, int)
                assert not len(packet) or (packet.x.max() < geometry.width and packet.y.max() < geometry.height)
                assert not len(packet) or packet.p.max() <= 1
            elif isinstance(packet, Frame):
                assert has_frames
                assert packet.pixels.dtype == np.uint8
                assert packet.pixels.flags.c_contiguous
                assert packet.pixels.shape == (geometry.height, geometry.width, geometry.channels)
                assert isinstance(packet.exposure_start_us, int)
                assert isinstance(packet.exposure_end_us, int)


def test_no_event_lies_inside_a_gap(source: Source) -> None:
    packets = _packets(source)
    t_us = np.concatenate([p.t_us for p in packets if isinstance(p, EventBatch)])
    for gap in (p for p in packets if isinstance(p, Gap)):
        assert gap.t1_us > gap.t0_us
        assert np.searchsorted(t_us, gap.t0_us) == np.searchsorted(t_us, gap.t1_us)


def test_two_iterations_give_the_same_columns(source: Source) -> None:
    with source:
        assert column_digests(source) == column_digests(source)


def test_closing_twice_is_allowed_and_reading_again_too(source: Source) -> None:
    with source:
        pass
    source.__exit__(None, None, None)
    assert _packets(source)


def test_leaving_in_the_middle_is_allowed(source: Source) -> None:
    with source:
        for _ in source:
            break


def test_no_driver_brings_in_torch_or_sockets() -> None:
    code = (
        "import sys, importlib\n"
        "from drivers.detect import driver_module, driver_names\n"
        "for name in driver_names(): importlib.import_module(driver_module(name))\n"
        "import drivers.packets.playback, drivers.packets.cleaning\n"
        "next(iter(importlib.import_module('drivers.cameras.synthetic').open_source(live=False)))\n"
        "print(sorted({'torch', 'zmq', 'multiprocessing.process', 'pydantic'} & set(sys.modules)))\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
