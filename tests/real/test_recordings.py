"""The real recordings: counted, dated, and compared with two other readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.packets.cleaning import CleaningCounters, cleaned
from drivers.recordings.recording.source import RecordingWriter
from drivers.source import Source
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket, Trigger
from tests.drivers.packets.made import column_digests

pytestmark = pytest.mark.real

AEDAT4 = {
    "emlb_demo-01_davis346.aedat4": (319_512, 13),
    "eslnet_cups_davis346_converted_first15.aedat4": (1_284_457, 15),
    "tonic_dvxplorer_320x240_no_frames.aedat4": (111_954, 0),
}


@pytest.fixture
def recordings(shared_data: Path) -> Path:
    return shared_data / "recordings"


def _read(path: Path) -> list[SourcePacket]:
    with open_recording(path) as source:
        return list(source)


def _column(packets: list[SourcePacket], name: str) -> np.ndarray:
    return np.concatenate([getattr(packet, name) for packet in packets if isinstance(packet, EventBatch)])


def _frames(packets: list[SourcePacket]) -> list[Frame]:
    return [packet for packet in packets if isinstance(packet, Frame)]


@pytest.mark.parametrize("name", AEDAT4)
def test_aedat4_agrees_with_the_aedat_package(recordings: Path, name: str) -> None:
    aedat = pytest.importorskip("aedat")
    packets = _read(recordings / name)
    theirs = list(aedat.Decoder(recordings / name))
    events = np.concatenate([packet["events"] for packet in theirs if "events" in packet])
    for ours, field in (("t_us", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        np.testing.assert_array_equal(_column(packets, ours), events[field].astype(np.int64))
    frames = [packet["frame"] for packet in theirs if "frame" in packet]
    assert (events.size, len(frames)) == AEDAT4[name]
    for our, their in zip(_frames(packets), frames, strict=True):
        assert (our.exposure_start_us, our.exposure_end_us) == (their["exposure_begin_t"], their["exposure_end_t"])
        np.testing.assert_array_equal(our.pixels[..., 0], their["pixels"])


@pytest.mark.parametrize("name", AEDAT4)
def test_aedat4_agrees_with_dv_processing(recordings: Path, name: str) -> None:
    dv = pytest.importorskip("dv_processing")
    packets = _read(recordings / name)
    reader = dv.io.MonoCameraRecording(str(recordings / name))
    batches = list(iter(reader.getNextEventBatch, None))
    theirs = np.concatenate([batch.numpy() for batch in batches])
    for ours, field in (("t_us", "timestamp"), ("x", "x"), ("y", "y"), ("p", "polarity")):
        np.testing.assert_array_equal(_column(packets, ours), theirs[field].astype(np.int64))
    if not AEDAT4[name][1]:
        return
    for our, their in zip(_frames(packets), iter(reader.getNextFrame, None), strict=True):
        assert our.exposure_start_us == their.timestamp
        assert our.exposure_end_us - our.exposure_start_us == round(their.exposure.total_seconds() * 1e6)
        np.testing.assert_array_equal(our.pixels[..., 0], their.image)


def test_exposure_triggers_agree_with_the_frames(recordings: Path) -> None:
    packets = _read(recordings / "emlb_demo-01_davis346.aedat4")
    edges = {(p.t_us, p.rising) for p in packets if isinstance(p, Trigger) and p.channel == 3}
    frames = _frames(packets)
    assert {f.exposure_end_us - f.exposure_start_us for f in frames} == {20_000}
    inside = [f for f in frames if (f.exposure_start_us, True) in edges and (f.exposure_end_us, False) in edges]
    assert len(inside) >= len(frames) - 1


def test_inertial_samples_are_in_si_units(recordings: Path) -> None:
    packets = _read(recordings / "tonic_dvxplorer_320x240_no_frames.aedat4")
    samples = np.concatenate([p.accelerometer_mps2 for p in packets if isinstance(p, ImuBatch)])
    assert samples.shape == (475, 3)
    assert np.linalg.norm(samples.mean(axis=0)) == pytest.approx(9.81, rel=0.1)


def test_recording_without_frames_says_so(recordings: Path) -> None:
    with open_recording(recordings / "tonic_dvxplorer_320x240_no_frames.aedat4") as source:
        assert not source.info.has_frames
        assert (source.info.geometry.width, source.info.geometry.height) == (320, 240)


@pytest.mark.parametrize(
    ("name", "count"), [("eslnet_cups_davis346_converted_first15.aedat4", 14), ("eslnet_cups_davis346.npz", 29)]
)
def test_both_copies_of_cups_have_a_gap_between_all_exposures(recordings: Path, name: str, count: int) -> None:
    packets = _read(recordings / name)
    gaps = [p for p in packets if isinstance(p, Gap)]
    frames = _frames(packets)
    assert len(gaps) == count
    for gap, left, right in zip(gaps, frames, frames[1:], strict=False):
        assert gap.t0_us == pytest.approx(left.exposure_end_us, abs=1)
        assert gap.t1_us == pytest.approx(right.exposure_start_us, abs=1)


def test_first_frames_of_both_copies_of_cups_are_alike(recordings: Path) -> None:
    copies = [
        _read(recordings / name)
        for name in ("eslnet_cups_davis346_converted_first15.aedat4", "eslnet_cups_davis346.npz")
    ]
    for ours, theirs in zip(*map(_frames, copies), strict=False):
        np.testing.assert_array_equal(ours.pixels, theirs.pixels)
        assert ours.exposure_start_us == theirs.exposure_start_us
    size = _column(copies[0], "t_us").size
    np.testing.assert_array_equal(_column(copies[0], "t_us"), _column(copies[1], "t_us")[:size])


def test_busy_recording_without_silence_has_no_gap(recordings: Path) -> None:
    assert not any(isinstance(p, Gap) for p in _read(recordings / "emlb_demo-01_davis346.aedat4"))


def test_evbench_leaves_out_its_first_frame_and_knows_no_exposure(recordings: Path) -> None:
    frames = _frames(_read(recordings / "evbench_seq_0001_davis240b.npz"))
    assert [f.index for f in frames] == list(range(1, 20))
    assert not any(f.exposure_known for f in frames)


@pytest.mark.parametrize("share", [0.3, 0.8, 0.999])
def test_cut_real_recording_gives_all_before_the_cut(recordings: Path, tmp_path: Path, share: float) -> None:
    whole = recordings / "emlb_demo-01_davis346.aedat4"
    data = whole.read_bytes()
    cut = tmp_path / "cut.aedat4"
    cut.write_bytes(data[: int(len(data) * share)])
    packets: list[SourcePacket] = []
    with open_recording(cut) as source, pytest.raises(RecordingDamaged) as damage:
        packets.extend(source)
    assert damage.value.position is not None
    assert 0 <= len(data) * share - damage.value.position < 100_000
    t_us, all_us = _column(packets, "t_us"), _column(_read(whole), "t_us")
    np.testing.assert_array_equal(t_us, all_us[: t_us.size])
    assert t_us.size > 0.9 * share * all_us.size - 10_000


def test_recording_in_our_format_keeps_every_column(recordings: Path, tmp_path: Path) -> None:
    with open_recording(recordings / "emlb_demo-01_davis346.aedat4") as source:
        with RecordingWriter(tmp_path / "copy.nire", source.info.geometry, source=source.info) as writer:
            for packet in source:
                writer.write(packet)
        with open_recording(tmp_path / "copy.nire") as copy:
            assert column_digests(copy) == column_digests(source)


def test_clean_recordings_pass_the_cleaning_untouched(recordings: Path) -> None:
    for name in (*AEDAT4, "eslnet_cups_davis346.npz", "evbench_seq_0001_davis240b.npz"):
        with open_recording(recordings / name) as source:
            counters = _drained(source)
        assert (counters.events_clamped, counters.events_outside, counters.clock_resets) == (0, 0, 0), name


def test_image_is_no_recording_and_is_refused_by_name_of_the_readers(recordings: Path) -> None:
    with pytest.raises(SourceError, match=r"none of the readers \(aedat, aedat4, .*recording"):
        open_recording(recordings / "eslnet_cups_original_sample" / "000015.png")


def _drained(source: Source) -> CleaningCounters:
    stream = cleaned(source)
    for _ in stream:
        pass
    return stream.counters
