"""Prophesee's files: every dialect of header, the size of the sensor, damage, memory, and a second reader."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.prophesee.header import parse_header
from drivers.recordings import prophesee_dat, prophesee_raw
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Geometry, SourcePacket, Trigger
from tests.drivers.prophesee import evt_writer as writer
from tests.drivers.prophesee.test_evt import edges_of, events_of

EVENTS = writer.sorted_events(2000)
EDGES = [(5200, 0, True), (5900, 6, False)]
WORDS = writer.encoded("EVT3", EVENTS)


def read(path: Path) -> list[SourcePacket]:
    with open_recording(path) as source:
        return list(source)


def raw(folder: Path, header: str, words: bytes = WORDS) -> Path:
    path = folder / "a.raw"
    path.write_bytes(header.encode() + words)
    return path


@pytest.mark.parametrize("encoding", list(writer.HEADERS))
def test_raw_is_told_from_its_content_and_read(tmp_path: Path, encoding: str) -> None:
    packets = read(writer.raw(tmp_path / "named.wrong", encoding, EVENTS, EDGES))
    assert events_of(packets) == EVENTS  # type: ignore[arg-type]
    assert edges_of(packets) == EDGES  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "header",
    [
        "% evt 3.0\n% geometry 64x48\n",
        "% evt 3.0\n% geometry 64x48\n% end\n",
        "% format EVT3;height=48;width=64\n% end\n",
        "% Date 2024-01-02 03:04:05\n% integrator_name Prophésée\n% format EVT3;width=64;height=48\n",
        "% evt 3.0\r\n% geometry 64x48\r\n% end\r\n",
        "% note \n% evt 3.0\n%  geometry 1x1\n% geometry 64x48\n",
    ],
)
def test_dialects_of_the_header_say_the_same(tmp_path: Path, header: str) -> None:
    with open_recording(raw(tmp_path, header)) as source:
        assert source.info.geometry == Geometry(64, 48)
        assert not source.info.has_frames
        assert events_of(list(source)) == EVENTS  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("plugin_name hal_plugin_gen3_fx3", (640, 480)),
        ("plugin_name hal_plugin_gen31_evk2", (640, 480)),
        ("plugin_name hal_plugin_gen41_evk3", (1280, 720)),
        ("plugin_name hal_plugin_imx636_evk4", (1280, 720)),
        ("plugin_name hal_plugin_genx320_cx3", (320, 320)),
        ("sensor_generation 4.2", (1280, 720)),
        ("generation 3.1", (640, 480)),
    ],
)
def test_size_of_a_known_sensor_needs_no_geometry(tmp_path: Path, line: str, size: tuple[int, int]) -> None:
    with open_recording(raw(tmp_path, f"% evt 3.0\n% {line}\n% end\n")) as source:
        assert source.info.geometry == Geometry(*size)


def test_size_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    path = raw(tmp_path, "% evt 3.0\n% plugin_name mine\n% geometry large\n% end\n")
    with (
        pytest.raises(SourceError, match=r"plugin_name mine\)\. To fix it, set width and height"),
        open_recording(path),
    ):
        pass
    with open_recording(path, width=64, height=48) as source:
        assert source.info.geometry == Geometry(64, 48)


@pytest.mark.parametrize(("width", "height"), [(64, 0), (0, 48), (-1, -1), (64, 1 << 20)])
def test_half_a_size_is_refused(tmp_path: Path, width: int, height: int) -> None:
    for module in (prophesee_raw, prophesee_dat):
        with pytest.raises(ConfigError, match="set both"):
            module.open_source(tmp_path / "a", width=width, height=height)


def test_encoding_that_holds_no_events_is_named(tmp_path: Path) -> None:
    path = raw(tmp_path, "% format HISTO3D;height=320;width=320\n% end\n")
    with pytest.raises(SourceError, match="encoded as 'HISTO3D'; EVT2, EVT21 and EVT3"), open_recording(path):
        pass


@pytest.mark.parametrize("order", ["EVT21", "EVT21 legacy"])
def test_order_of_halves_is_found_where_the_header_does_not_say(tmp_path: Path, order: str) -> None:
    path = raw(tmp_path, "% evt 2.1\n% geometry 64x48\n", writer.encoded(order, EVENTS, EDGES))
    assert events_of(read(path)) == EVENTS  # type: ignore[arg-type]


def test_data_that_begins_like_a_header_line_is_data(tmp_path: Path) -> None:
    # The word 0x2025 is "% ": without "% end", only what follows tells that no text is meant.
    words = writer.words16(0x2025, 0x000A) + WORDS
    assert events_of(read(raw(tmp_path, "% evt 3.0\n% geometry 64x48\n", words))) == EVENTS  # type: ignore[arg-type]


def test_other_files_with_percent_signs_are_not_taken() -> None:
    for text in (b"% a comment in some text\n% of two lines\n", b"%PDF-1.7\n", b"% Version 2\n", b""):
        header = parse_header(text)
        assert not header.is_raw
        assert not header.is_dat


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", [0x00, 0x0C])
def test_dat_is_read_in_both_versions(tmp_path: Path, version: int, kind: int) -> None:
    path = writer.dat(tmp_path / "a.bin", EVENTS, version=version, kind=kind)
    with open_recording(path) as source:
        assert source.info.geometry == Geometry(64, 48)
        assert source.info.duration_us == EVENTS[-1][0] - EVENTS[0][0]
        assert events_of(list(source)) == EVENTS  # type: ignore[arg-type]


def test_dat_of_version_1_without_a_size_is_of_the_one_sensor_it_fits(tmp_path: Path) -> None:
    with open_recording(writer.dat(tmp_path / "a.dat", EVENTS, version=1, size=None)) as source:
        assert source.info.geometry == Geometry(304, 240)
    path = writer.dat(tmp_path / "b.dat", EVENTS, size=None)
    with pytest.raises(SourceError, match="set width and height"), open_recording(path):
        pass


def test_dat_of_edges_gives_edges(tmp_path: Path) -> None:
    packets = read(writer.dat_edges(tmp_path / "a.dat", EDGES))
    assert edges_of(packets) == EDGES  # type: ignore[arg-type]
    assert not any(len(packet) for packet in packets if isinstance(packet, EventBatch))


def test_time_of_dat_goes_on_where_its_32_bits_begin_again(tmp_path: Path) -> None:
    events = [(t, 3, 4, 1) for t in (7, (1 << 32) - 9, (1 << 32) + 5)]
    assert events_of(read(writer.dat(tmp_path / "a.dat", events))) == events  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "message"), [(0x28, "records of type 0x28"), (0x0C, "version '9'")])
def test_dat_of_another_kind_is_named(tmp_path: Path, kind: int, message: str) -> None:
    path = writer.dat(tmp_path / "a.dat", EVENTS, kind=kind)
    if "version" in message:
        path.write_bytes(path.read_bytes().replace(b"% Version 2", b"% Version 9"))
    with pytest.raises(SourceError, match=message), open_recording(path):
        pass


@pytest.mark.parametrize("encoding", [*writer.HEADERS, "DAT"])
def test_cut_file_gives_all_before_the_cut_and_its_position(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a"
    _ = writer.dat(path, EVENTS) if encoding == "DAT" else writer.raw(path, encoding, EVENTS)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    word = {"EVT3": 2, "EVT2": 4}.get(encoding, 8)
    found: list[SourcePacket] = []
    with open_recording(path) as source, pytest.raises(RecordingDamaged, match="all before was delivered") as damage:
        found.extend(source)
    assert damage.value.position == len(data) - word
    read_events = events_of(found)  # type: ignore[arg-type]
    assert read_events == EVENTS[: len(read_events)]
    assert len(EVENTS) - 32 <= len(read_events) < len(EVENTS)


@pytest.mark.parametrize("encoding", list(writer.HEADERS))
def test_garbage_after_good_data_is_damage_at_its_position(tmp_path: Path, encoding: str) -> None:
    garbage = np.random.default_rng(5).integers(0, 256, 80_000).astype(np.uint8).tobytes()
    path = writer.raw(tmp_path / "a.raw", encoding, EVENTS, EDGES, extra=garbage)
    start = path.stat().st_size - len(garbage)
    found: list[SourcePacket] = []
    with open_recording(path) as source, pytest.raises(RecordingDamaged) as damage:
        found.extend(source)
    assert start <= (damage.value.position or 0) < start + 200
    assert events_of(found)[: len(EVENTS)] == EVENTS  # type: ignore[arg-type]
    assert len(events_of(found)) < len(EVENTS) + 400  # type: ignore[arg-type]


def test_file_without_words_has_no_packets_and_one_without_header_is_refused(tmp_path: Path) -> None:
    assert read(raw(tmp_path, "% evt 3.0\n% geometry 64x48\n% end\n", b"")) == []
    (tmp_path / "b").write_bytes(WORDS)
    for module in (prophesee_raw, prophesee_dat):
        with pytest.raises(SourceError, match="recording: its header"), module.open_source(tmp_path / "b"):
            pass
        with pytest.raises(SourceError, match="cannot read"), module.open_source(tmp_path / "c"):
            pass


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    header, peaks = writer.HEADERS["EVT3"], []
    for times in (200, 1500):
        path = tmp_path / f"{times}.raw"
        path.write_bytes(header + WORDS * times)
        count = 0
        with open_recording(path) as source:
            tracemalloc.start()
            for packet in source:
                count += len(packet) if isinstance(packet, EventBatch) else 0
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert count == times * len(EVENTS)
    assert peaks[1] < 1.2 * peaks[0] + 100_000
    assert peaks[1] < 6 << 20


@pytest.mark.parametrize(("encoding", "version"), [("EVT2", "evt2"), ("EVT3", "evt3")])
def test_faery_reads_the_same_from_what_the_tests_write(tmp_path: Path, encoding: str, version: str) -> None:
    faery = pytest.importorskip("faery")
    path = writer.raw(tmp_path / "a.raw", encoding, EVENTS, EDGES)
    with faery.extension.evt.Decoder(path, (64, 48), version) as decoder:
        packets = list(decoder)
    theirs = np.concatenate([packet["events"] for packet in packets if "events" in packet])
    edges = np.concatenate([packet["triggers"] for packet in packets if "triggers" in packet])
    assert [(int(t), int(x), int(y), int(p)) for t, x, y, p in theirs.tolist()] == EVENTS
    assert edges.tolist() == EDGES


@pytest.mark.parametrize("version", [1, 2])
def test_faery_reads_the_same_from_dat(tmp_path: Path, version: int) -> None:
    faery = pytest.importorskip("faery")
    path = writer.dat(tmp_path / "a.dat", EVENTS, version=version)
    with faery.extension.dat.Decoder(path, (64, 48), f"dat{version}") as decoder:
        theirs = np.concatenate(list(decoder))
    assert [tuple(int(n) for n in row) for row in theirs.tolist()] == EVENTS


def test_edges_stay_between_the_events_they_were_written_between(tmp_path: Path) -> None:
    path = writer.raw(tmp_path / "a.raw", "EVT3", EVENTS, EDGES)
    newest = 0
    for packet in read(path):
        if isinstance(packet, Trigger):
            assert packet.t_us <= newest
        elif isinstance(packet, EventBatch):
            newest = packet.watermark_us


@pytest.mark.parametrize("encoding", ["EVT21", "EVT21 legacy"])
def test_order_of_evt21_that_masks_do_not_tell_is_told_by_the_times(tmp_path: Path, encoding: str) -> None:
    # Of each vector the same two pixels fire: their mask looks like a type, in either half.
    events = [(16 * n, 32 + k, 7, 1) for n in range(300) for k in (0, 1)]
    path = writer.raw(tmp_path / "a.raw", encoding, events)
    path.write_bytes(path.read_bytes().replace(b"endianness=little;", b"").replace(b"endianness=legacy;", b""))
    with open_recording(path) as source:
        assert sum(len(packet) for packet in source if isinstance(packet, EventBatch)) == 600
