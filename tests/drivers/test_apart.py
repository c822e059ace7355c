"""A library that crashes or hangs over a file does so in a child process; what came before is delivered."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivers import apart
from drivers.apart import ReadApart
from drivers.detect import open_recording
from drivers.hdf5_kind import is_metavision
from drivers.recordings import hdf5, video
from drivers.source import Found, Stream
from nire.errors import NireError, RecordingDamaged, SdkMissing, SourceError
from nire.types import EventBatch, Frame, SourcePacket
from tests.drivers.recordings import hdf5_files, metavision_files, videos
from tests.waiting import until

_DRIVER = """
import logging, os, signal, sys, time
from drivers.recording_file import RecordingFile
from drivers.source import Found, SourceInfo, Stream
from nire.errors import RecordingDamaged, SdkMissing, SourceError
from nire.types import EventBatch, Geometry

class Odd(RecordingFile):
    def _look(self):
        {opening}
        print("a library prints")
        logging.getLogger("odd").warning("said %d", 7)
        return SourceInfo("odd", Geometry(4, 3), streams=(Stream("a", "events", True),), found=(Found("b", "c", "d"),))

    def _play(self):
        yield EventBatch.empty(5)
        yield EventBatch.empty(os.getpid())
        {playing}

def open_source(path):
    return Odd(path)
"""
Make = Callable[..., ReadApart]


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a source whose driver, found by a child process only, does odd things."""

    def make(*, opening: str = "pass", playing: str = "pass", patience_s: float = apart.PATIENCE_S) -> ReadApart:
        (tmp_path / "odd_driver.py").write_text(_DRIVER.format(opening=opening, playing=playing))
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        return ReadApart("odd_driver", {"path": tmp_path / "a.odd"}, patience_s=patience_s)

    return make


def test_crash_is_a_damaged_recording_behind_the_last_packet(odd: Make) -> None:
    seen: list[SourcePacket] = []
    with odd(playing="os.kill(os.getpid(), signal.SIGSEGV)") as source:
        with pytest.raises(RecordingDamaged, match=r"a\.odd .* packet 2: .* crashed \(SIGSEGV\)") as caught:
            seen.extend(source)
        assert source.info.geometry.width == 4
    assert len(seen) == 2
    assert caught.value.position == 2


def test_crash_while_it_is_opened_is_a_damaged_recording(odd: Make) -> None:
    with pytest.raises(RecordingDamaged, match="SIGABRT") as caught, odd(opening="os.abort()"):
        pass
    assert caught.value.position == 0


def test_crash_leaves_no_file_of_its_memory(odd: Make) -> None:
    dumps = "import resource; 1 / (resource.getrlimit(resource.RLIMIT_CORE) == (0, 0))"
    with odd(opening=dumps) as source:
        assert list(source)


@pytest.mark.parametrize("place", ["opening", "playing"])
def test_library_that_does_not_come_back_is_left(odd: Make, place: str) -> None:
    # Python itself is held: no thread of it could end the process.
    hang = "import re; re.match('(a*)*b', 'a' * 99)"
    with (
        pytest.raises(RecordingDamaged, match="did not come back within 2 s"),
        odd(**{place: hang}, patience_s=2) as it,
    ):
        list(it)


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        ("RecordingDamaged('byte 12 is bad', 12)", RecordingDamaged, "byte 12 is bad"),
        ("SourceError('not such a thing')", SourceError, "not such a thing"),
        ("SdkMissing('install it')", SdkMissing, "install it"),
        ("ValueError('odd bytes')", RecordingDamaged, "odd bytes"),
    ],
)
@pytest.mark.parametrize("place", ["opening", "playing"])
def test_errors_are_those_of_the_driver(odd: Make, place: str, raised: str, kind: type[NireError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught, odd(**{place: f"raise {raised}"}) as source:
        list(source)
    assert type(caught.value) is kind
    if isinstance(caught.value, RecordingDamaged):
        assert caught.value.position == (12 if "12" in raised else 2 if place == "playing" else 0)


def test_what_the_driver_says_arrives(odd: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), odd() as source:
        assert len(list(source)) == 2
    assert ("odd", logging.WARNING, "said 7") in caplog.record_tuples


def test_what_the_driver_found_arrives(odd: Make) -> None:
    with odd() as source:
        assert source.info.streams == (Stream("a", "events", True),)
        assert source.info.found == (Found("b", "c", "d"),)


def _lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_child_ends_with_whoever_reads(odd: Make) -> None:
    with odd(playing="time.sleep(1000)") as source:
        packets = iter(source)
        next(packets)
        batch = next(packets)
        assert isinstance(batch, EventBatch)
        pid = batch.watermark_us
        assert _lives(pid)
        del packets
    assert not _lives(pid)


def test_child_ends_when_its_parent_is_killed(odd: Make, tmp_path: Path) -> None:
    odd(playing="time.sleep(1000)")
    script = (
        "import sys; from drivers.apart import ReadApart\n"
        f"with ReadApart('odd_driver', {{'path': {str(tmp_path / 'a.odd')!r}}}) as source:\n"
        "    packets = iter(source); next(packets); print(next(packets).watermark_us, flush=True); next(packets)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    until(lambda: not _lives(pid))


def test_packets_are_those_of_the_driver_at_each_iteration(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path = hdf5_files.write_common(tmp_path / "a.h5")
    with hdf5.open_source(path) as here, open_recording(path) as there:
        assert isinstance(there, ReadApart)
        assert there.info == here.info
        assert_same(list(there), list(here))
        assert_same(list(there), list(here))


def test_settings_reach_the_child(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.avi", videos.sliding())
    settings = {"colour": False, "seconds": np.float32(0.2), "sensor": {"threshold_positive": 0.3}}
    with video.open_source(path, **settings) as here, open_recording(path, **settings) as there:  # type: ignore[arg-type]
        assert isinstance(there, ReadApart)
        assert_same(list(there), list(here))


def assert_same(found: list[SourcePacket], expected: list[SourcePacket]) -> None:
    """Compare packets, and that there are some."""
    assert [type(packet) for packet in found] == [type(packet) for packet in expected]
    assert any(isinstance(packet, EventBatch) and len(packet) for packet in found)
    for mine, other in zip(found, expected, strict=True):
        if isinstance(mine, EventBatch) and isinstance(other, EventBatch):
            for name in ("t_us", "x", "y", "p"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))
            assert mine.watermark_us == other.watermark_us
        elif isinstance(mine, Frame) and isinstance(other, Frame):
            np.testing.assert_array_equal(mine.pixels, other.pixels)
            assert mine.exposure_start_us == other.exposure_start_us


def test_kind_of_hdf5_is_told_and_damaged_bytes_are_none_of_metavision(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    common = hdf5_files.write_common(tmp_path / "common.h5")
    metavision = tmp_path / "metavision.h5"
    metavision_files.write(metavision)
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(metavision.read_bytes()[:100])
    kinds = [is_metavision(path.read_bytes()[:16], path) for path in (common, metavision, damaged)]
    assert kinds == [False, True, False]
