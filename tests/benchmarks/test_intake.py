"""What the reader of `bench intake` says of a stream: all of it, and what is missing from it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import intake
from benchmarks.carriage import Digest, carry
from benchmarks.event_files import write_evt2, write_evt3, write_text
from drivers.detect import open_recording
from nire.types import EventBatch, Trigger
from stream.sources import SourceOrder


def digest_of(path: Path) -> Digest:
    digest = Digest()
    with open_recording(path) as source:
        for packet in source:
            if isinstance(packet, EventBatch):
                digest.add(packet)
    return digest


def test_digest_does_not_depend_on_batches_but_on_every_column() -> None:
    t_us, x, y, p = np.arange(10), np.arange(10, dtype=np.uint16), np.ones(10, np.uint16), np.ones(10, np.uint8)
    whole, parts, other = Digest(), Digest(), Digest()
    whole.add(EventBatch(t_us, x, y, p, 9))
    for part in (slice(0, 3), slice(3, 3), slice(3, 10)):
        parts.add(EventBatch(t_us[part], x[part], y[part], p[part], 9))
    other.add(EventBatch(t_us, x[::-1].copy(), y, p, 9))
    assert whole == parts
    assert [mine == theirs for mine, theirs in zip(whole.columns, other.columns, strict=True)] == [True, False] + [
        True
    ] * 2


@pytest.mark.system
@pytest.mark.parametrize("speed", [0.2, math.inf])
def test_all_of_a_file_is_carried(tmp_path: Path, speed: float) -> None:
    path = tmp_path / "a.raw"
    write_evt3(path, seconds=0.5, rate_meps=1.0)
    sent = digest_of(path)
    got = carry(["ring.peak_rate_meps=4"], SourceOrder(path, speed), events=sent.events)
    assert got.digest == sent
    assert (got.lost, got.gaps) == (0, [])
    assert set(got.cores) == {"producer", "reader"}
    # 2.5 s, of which a reader that is kept from running may miss the beginning, never the most.
    assert got.seconds > 1.0 or math.isinf(speed)


@pytest.mark.system
def test_what_is_never_sent_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    write_evt3(path, seconds=0.2, rate_meps=1.0)
    sent = digest_of(path)
    path.write_bytes(path.read_bytes()[:-200])
    got = carry([], SourceOrder(path, math.inf), events=sent.events)
    assert 0 < sent.events - got.digest.events < 200
    assert got.digest.columns != sent.columns


@pytest.mark.system
def test_all_that_a_dv_writer_serves_at_full_rate_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dv_processing", reason="dv-processing is not installed")
    monkeypatch.setattr(intake, "_SECONDS", 0.4)  # less than what waits in the queues of a reader that sleeps
    figures = {result.metric: result.value for result in intake._from_dv(tmp_path / "served.aedat4", None)}
    assert figures["dv_events_lost"] == figures["dv_columns_differ"] == 0
    assert figures["dv_offered_events_per_s"] > 0


def test_files_hold_what_the_readers_say(tmp_path: Path) -> None:
    plain, edges, text, evt2 = (tmp_path / name for name in ("a.raw", "b.raw", "c.txt", "d.raw"))
    write_evt3(plain, seconds=0.1, rate_meps=0.8)
    write_evt3(edges, seconds=0.1, rate_meps=0.8, edges=True)
    write_evt2(evt2, 5000)
    write_text(text, 5000)
    assert digest_of(plain) == digest_of(edges)
    with open_recording(edges) as source:
        found = [packet for packet in source if isinstance(packet, Trigger)]
    assert len(found) == 1000
    assert digest_of(text) == digest_of(evt2)
