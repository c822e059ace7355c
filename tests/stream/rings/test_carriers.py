"""Carriers of the rings, either of them: members that are killed, late or too slow, and who may join whom."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pytest
from llvmlite import binding as llvm

from nire.errors import RingError
from nire.types import EventBatch, Frame, Gap, Geometry, Packet
from stream.blocks import Blocks
from stream.config_sections import RingConfig
from stream.rings import carriers
from stream.rings.carriers import MAX_READERS, atomics, seqlock
from stream.rings.place import SHARED_MEMORY, RingSpace
from stream.rings.ring import RingReader, RingWriter, event_depth, frame_depth, sweep
from tests.waiting import PATIENCE_S

GEOMETRY = Geometry(64, 48)
KILLS = 5
_ROOT = Path(__file__).parents[3]
_WRITER = """
import sys
from tests.stream.rings.test_carriers import write_for_ever
write_for_ever(*sys.argv[1:])
"""
_READER = """
import sys
from tests.stream.rings.test_carriers import read_for_ever
read_for_ever(*sys.argv[1:])
"""


@pytest.fixture(params=["iceoryx2", "seqlock"])
def ring(request: pytest.FixtureRequest) -> RingConfig:
    if request.param == "iceoryx2":
        pytest.importorskip("iceoryx2")
    return config_of(request.param)


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    assert sweep(name), "a process of the test still holds the rings"
    assert RingSpace.of(name).leftovers() == []


def config_of(carrier: str) -> RingConfig:
    """Few large packets: most of the time a writer is in the middle of one."""
    return RingConfig.model_validate({"seconds": 0.05, "packet_us": 2000, "peak_rate_meps": 10.0, "carrier": carrier})


def batch(start_us: int, count: int) -> EventBatch:
    """Each event's place follows from its time: a batch that was put together of two does not make sense."""
    t_us = start_us + np.arange(count, dtype=np.int64) // 16
    x, y = (t_us % GEOMETRY.width).astype(np.uint16), (t_us % GEOMETRY.height).astype(np.uint16)
    return EventBatch(t_us, x, y, (t_us % 2).astype(np.uint8), int(t_us[-1]) + 1)


def frame(index: int, start_us: int) -> Frame:
    return Frame(index, np.full((GEOMETRY.height, GEOMETRY.width, 1), index % 251, np.uint8), start_us, start_us + 5)


def is_whole(packet: Packet) -> bool:
    if isinstance(packet, EventBatch):
        t_us = packet.t_us
        places = (packet.x == t_us % GEOMETRY.width) & (packet.y == t_us % GEOMETRY.height) & (packet.p == t_us % 2)
        return bool(places.all() and (t_us == t_us[0] + np.arange(len(t_us)) // 16).all())
    return not isinstance(packet, Frame) or bool((packet.pixels == packet.index % 251).all())


def write_for_ever(name: str, carrier: str) -> None:
    """Be a producer that is always at it."""
    with RingWriter(name, GEOMETRY, config_of(carrier)) as writer:
        print("writes", flush=True)
        for k in range(10**9):
            writer.send(batch(2000 * k, 16_000 + k % 1000))
            if k % 5 == 0:
                writer.send(frame(k // 5, 2000 * k))


def read_for_ever(name: str, carrier: str) -> None:
    """Be a reader that is always at it."""
    with RingReader(name, config_of(carrier), wait_s=PATIENCE_S) as reader:
        while not reader.read(1.0):
            pass
        print("reads", flush=True)
        while True:
            assert all(map(is_whole, reader.read(1.0)))


@contextlib.contextmanager
def running(script: str, name: str, carrier: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has begun its work; leaving kills it."""
    words = [sys.executable, "-c", script, name, carrier]
    with subprocess.Popen(words, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "the process ended before it began"
            yield process
        finally:
            process.kill()


@pytest.mark.system
def test_killed_writers_tear_no_packet_and_hold_up_nobody(name: str, ring: RingConfig) -> None:
    dice, lives = random.Random(1), {0}
    with contextlib.ExitStack() as left:
        reader: RingReader | None = None
        for _ in range(KILLS):
            with running(_WRITER, name, ring.carrier) as writer:
                if reader is None:
                    reader = left.enter_context(RingReader(name, ring, wait_s=PATIENCE_S))
                while reader.continuity.position[0] in lives:
                    assert all(map(is_whole, reader.read(1.0)))
                lives.add(reader.continuity.position[0])
                for _ in range(dice.randint(1, 50)):
                    assert all(map(is_whole, reader.read(1.0)))
                writer.kill()
            assert all(map(is_whole, reader.read(0.0)))
    assert len(lives) == 1 + KILLS


@pytest.mark.system
def test_killed_readers_give_their_places_back(name: str, ring: RingConfig) -> None:
    with running(_WRITER, name, ring.carrier):
        for _ in range(MAX_READERS + 2):
            with running(_READER, name, ring.carrier):
                pass
        with RingReader(name, ring, wait_s=PATIENCE_S) as reader:
            assert all(map(is_whole, reader.read(PATIENCE_S)))


def test_late_reader_begins_with_the_next_packet(name: str, ring: RingConfig) -> None:
    with RingWriter(name, GEOMETRY, ring) as writer:
        for k in range(3 * event_depth(ring)):
            writer.send(batch(2000 * k, 100))
            writer.send(frame(k, 2000 * k))
        with RingReader(name, ring) as reader:
            assert reader.read(0.0) == []
            writer.send(frame(7, 10**6))
            writer.send(batch(10**6, 50))
            got = reader.read(1.0)
    assert [type(packet) for packet in got] == [Frame, EventBatch]
    assert reader.lost_packets == 0


def test_reader_that_was_there_first_gets_all_at_its_first_look(name: str, ring: RingConfig) -> None:
    """A process that finds nothing tells the producer that nothing is on its way."""
    joined = threading.Event()
    got: list[Packet] = []

    def read() -> None:
        with RingReader(name, ring, wait_s=PATIENCE_S, meanwhile=joined.set) as reader:
            written.wait()
            got.extend(reader.read(0.0))

    written = threading.Event()
    thread = threading.Thread(target=read)
    thread.start()
    joined.wait()
    with RingWriter(name, GEOMETRY, ring) as writer:
        writer.send(batch(0, 10))
        writer.send(frame(0, 3))
        written.set()
        thread.join()
    assert [type(packet) for packet in got] == [EventBatch, Frame]


def test_read_ends_where_packets_come_as_quickly_as_they_are_copied(
    name: str, ring: RingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = event_depth(ring)
    with RingWriter(name, GEOMETRY, ring) as writer, RingReader(name, ring) as reader:
        sent = 1
        hold = Blocks.hold

        def meanwhile(blocks: Blocks, batch_: EventBatch) -> EventBatch:
            nonlocal sent
            if sent < 5 * depth:
                sent += 1
                writer.send(batch(2000 * sent, 10))
            return hold(blocks, batch_)

        monkeypatch.setattr(Blocks, "hold", meanwhile)
        writer.send(batch(2000, 10))
        got = reader.read(0.0)
        assert 1 <= len(got) <= depth
        while sent < 5 * depth or (packets := reader.read(0.0)):
            got += reader.read(0.0) if sent < 5 * depth else packets
    assert [packet.watermark_us // 2000 for packet in got] == list(range(1, 5 * depth + 1))
    assert reader.lost_packets == 0


def test_waiting_reader_is_woken(name: str, ring: RingConfig) -> None:
    with RingWriter(name, GEOMETRY, ring) as writer, RingReader(name, ring) as reader:
        got: list[Packet] = []
        thread = threading.Thread(target=lambda: got.extend(reader.read(10 * PATIENCE_S)))
        thread.start()
        writer.send(batch(0, 10))
        thread.join(PATIENCE_S)
        assert len(got) == 1


def test_reader_waits_as_long_as_it_is_asked_to_whatever_signals_come(name: str, ring: RingConfig) -> None:
    came = []
    before = signal.signal(signal.SIGALRM, lambda *_: came.append(1))
    try:
        with RingWriter(name, GEOMETRY, ring) as writer, RingReader(name, ring) as reader:
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            began_s = time.monotonic()
            assert reader.read(0.3) == []
            assert time.monotonic() - began_s >= 0.3
            assert len(came) > 1
            writer.send(frame(0, 5))
            assert len(reader.read(PATIENCE_S)) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_place_beyond_the_last_is_refused(name: str, ring: RingConfig) -> None:
    with RingWriter(name, GEOMETRY, ring), contextlib.ExitStack() as readers:
        for _ in range(MAX_READERS):
            readers.enter_context(RingReader(name, ring))
        with pytest.raises(RingError, match=r"no free place.*6 readers are the most"):
            RingReader(name, ring)
        readers.close()
        with RingReader(name, ring):
            pass


def test_auto_is_what_the_running_stream_has(name: str, ring: RingConfig) -> None:
    auto = ring.model_copy(update={"carrier": "auto"})
    with RingWriter(name, GEOMETRY, ring) as writer, RingReader(name, auto) as reader:
        writer.send(batch(0, 10))
        assert len(reader.read(1.0)) == 1


def test_process_with_the_other_carrier_is_refused(name: str) -> None:
    pytest.importorskip("iceoryx2")
    with RingWriter(name, GEOMETRY, config_of("seqlock")), pytest.raises(RingError, match="carrier seqlock, here ice"):
        RingReader(name, config_of("iceoryx2"))


def test_carrier_that_is_not_installed_is_named_with_the_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "iceoryx2", None)
    monkeypatch.delitem(sys.modules, "stream.rings.carriers.iceoryx2", raising=False)
    with pytest.raises(RingError, match=r"pip install iceoryx2, or set ring.carrier = 'seqlock'"):
        RingWriter(name, GEOMETRY, config_of("iceoryx2"))
    monkeypatch.setattr(carriers, "find_spec", lambda package: None)
    with RingWriter(name, GEOMETRY, config_of("auto")):
        assert RingSpace.of(name).carrier == "seqlock"


# What the seqlock is about


def test_copy_that_is_overwritten_meanwhile_is_thrown_away_and_counted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = config_of("seqlock")
    depth = event_depth(ring)
    with RingWriter(name, GEOMETRY, ring) as writer, RingReader(name, ring) as reader:
        writer.send(batch(0, 10))
        reader.read(0.0)
        for k in range(1, 4):
            writer.send(batch(2000 * k, 10))

        def overtake() -> None:
            """Between the copy and the second look."""
            monkeypatch.undo()
            for k in range(4, 4 + depth):
                writer.send(batch(2000 * k, 10))

        monkeypatch.setattr(seqlock, "fence", overtake)
        reader.read(0.0)
        got = reader.read(0.0)
        assert all(map(is_whole, got))
        assert isinstance(got[0], Gap)
        assert isinstance(got[-1], EventBatch)
        assert got[-1].t_us[0] == 2000 * (3 + depth)
        assert reader.lost_packets + len(got) - 1 == 3 + depth
        assert got[0].lost_events == 10 * reader.lost_packets


def test_packet_that_its_writer_never_finished_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = config_of("seqlock")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with contextlib.ExitStack() as left:
        writer = left.enter_context(RingWriter(name, GEOMETRY, ring))
        reader = left.enter_context(RingReader(name, ring))
        writer.send(batch(0, 10))
        with monkeypatch.context() as killed:
            killed.setattr("stream.rings.packets.write", dies)
            with pytest.raises(KeyboardInterrupt):
                writer.send(batch(2000, 10))
        assert len(reader.read(0.0)) == 1
        assert reader.read(0.0) == []
        with pytest.raises(RingError, match="another producer"):
            RingWriter(name, GEOMETRY, ring)
        writer.close()
        after = left.enter_context(RingWriter(name, GEOMETRY, ring))
        after.send(batch(0, 10))
        assert [type(packet) for packet in reader.read(0.0)] == [Gap, EventBatch]


def test_what_a_dead_producer_has_sent_is_taken_before_its_successor(name: str) -> None:
    ring = config_of("seqlock")
    with RingWriter(name, GEOMETRY, ring) as first:
        reader = RingReader(name, ring)
        first.send(batch(0, 11))
        first.send(frame(0, 5))
    with RingWriter(name, GEOMETRY, ring) as second, reader:
        second.send(batch(0, 12))
        got = [*reader.read(0.0), *reader.read(0.0)]
    assert [len(packet) for packet in got if isinstance(packet, EventBatch)] == [11, 12]
    assert [type(packet) for packet in got] == [EventBatch, Frame, Gap, EventBatch]


def test_half_made_files_of_a_killed_producer_are_of_no_consequence(name: str) -> None:
    ring = config_of("seqlock")
    with contextlib.ExitStack() as left:
        first = left.enter_context(RingWriter(name, GEOMETRY, ring))
        reader = left.enter_context(RingReader(name, ring))
        first.send(batch(0, 10))
        space = RingSpace.of(name)
        for which in ("events", "frames"):
            space.shared_file(f"{which}-{7:016x}").write_bytes(b"")
        assert len(reader.read(0.0)) == 1
        first.close()
        second = left.enter_context(RingWriter(name, GEOMETRY, ring))
        second.send(batch(0, 10))
        assert [type(packet) for packet in reader.read(0.0)] == [Gap, EventBatch]
        assert len([path for path in space.leftovers() if path.parent == SHARED_MEMORY]) == 2


def test_rings_take_the_room_of_their_packets(name: str) -> None:
    ring = config_of("seqlock")
    with RingWriter(name, GEOMETRY, ring):
        _, frames = sizes = [path.stat() for path in RingSpace.of(name).leftovers() if path.parent == SHARED_MEMORY]
    assert frames.st_size == seqlock.file_bytes(frame_depth(ring), 96 + 64 + 64 * 48)
    assert all(size.st_blocks * 512 <= 8192 for size in sizes)  # nothing is written yet


def test_words_are_in_order_on_arm_too() -> None:
    """What no x86-64 machine can show by running: the instructions that the words are compiled to there."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine()
    word = np.zeros(1, np.int64)
    fresh = {name: numba.njit(getattr(atomics, name).py_func) for name in ("load", "store", "fence")}
    fresh["store"](word.ctypes.data, 7)
    fresh["fence"]()
    assert fresh["load"](word.ctypes.data) == word[0] == 7
    for function, instruction in {"load": r"\bldar\b", "store": r"\bstlr\b", "fence": r"\bdmb\s+ish\b"}.items():
        (text,) = fresh[function].inspect_llvm().values()
        text = re.sub("target triple = .*", 'target triple = "aarch64-unknown-linux-gnu"', text)
        text = re.sub("target datalayout = .*", f'target datalayout = "{machine.target_data}"', text)
        assert re.search(instruction, machine.emit_assembly(llvm.parse_assembly(text)))
