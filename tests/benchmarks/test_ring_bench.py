"""What `bench ring` says of its runs: losses, order, and how long catching up took."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import ring
from benchmarks.report import report
from nire.types import EventBatch, Packet
from stream.clock import now_ns


def carried(**changes: float) -> ring.Carried:
    usual = {"sent": 204_000_000, "received": 204_000_000, "seconds": 6.0, "windows": 150, "catch_up_s": 0.2}
    return ring.Carried(memcpy_bytes_per_s=5e9, **{**usual, **changes})  # type: ignore[arg-type]


def values(*runs: ring.Carried) -> dict[str, float]:
    return {result.metric: result.value for result in ring.summary("seqlock", "", runs)}


def test_runs_are_summed_up_by_what_went_wrong_in_any_of_them() -> None:
    lossy = carried(received=203_000_000, lost=900_000, disordered=3, catch_up_s=0.7)
    found = values(carried(), lossy, carried())
    assert (found["events_lost"], found["events_uncounted"], found["events_out_of_order"]) == (900_000, 100_000, 3)
    assert found["catch_up_ms"] == pytest.approx(700)
    assert found["events_per_s"] == pytest.approx(34e6)
    rows = report("ring", ring.summary("seqlock", "", [carried(), lossy]))["results"]
    assert {row["metric"]: row.get("each") for row in rows}["events_lost"] == (0.0, 900_000.0)
    alone = report("ring", ring.summary("seqlock", "", [lossy]))["results"]
    assert not any("each" in row for row in alone)


@pytest.mark.parametrize(("slowest", "verdict"), [(3.5e9, 0.0), (3.6e9, 1.0)])
def test_memory_allows_the_rate_where_each_run_found_it_fast_enough(slowest: float, verdict: float) -> None:
    slow = carried()
    slow.memcpy_bytes_per_s = slowest
    assert values(carried(), slow)["memcpy_allows"] == verdict


class Reader:
    """Gives batches that waited for ten seconds, but for those named."""

    def __init__(self, times: Iterable[tuple[int, int]], fresh: int) -> None:
        self._times = list(times)
        self._fresh = fresh
        self.reads = 0

    @property
    def ended(self) -> bool:
        return self.reads == len(self._times)

    def read(self, timeout_s: float) -> list[Packet]:
        t_us = np.array(self._times[self.reads])
        zeros = np.zeros(len(t_us), np.uint16)
        waited_ns = 0 if self.reads == self._fresh else 10 * 10**9
        self.reads += 1
        return [EventBatch(t_us, zeros, zeros, zeros.astype(np.uint8), int(t_us[-1]), now_ns() - waited_ns)]


def test_catching_up_ends_with_the_first_fresh_packet_after_the_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "_STALL_S", 0.0)
    monkeypatch.setattr(ring, "_SECONDS", 0.001)
    clock = itertools.count()
    monkeypatch.setattr(ring.time, "perf_counter", lambda: next(clock) * 1e-6 + (1e-3 if reader.reads else 0.0))
    fed: list[list[Packet]] = []

    def feed(packets: list[Packet]) -> Iterator[None]:
        fed.append(packets)
        yield from ()

    took = {}
    for fresh in (3, 5, -1):
        reader = Reader([(k, k + 1) for k in range(10)], fresh)
        done = ring.Carried(1.0)
        ring._read(reader, SimpleNamespace(feed=feed), done)  # type: ignore[arg-type]
        took[fresh] = done.catch_up_s
        assert done.disordered == 0
    assert len(fed) == 30
    assert 0 < took[3] < took[5] < took[-1]


def test_events_before_those_that_came_are_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "_STALL_S", 0.0)
    done = ring.Carried(1.0)
    session = SimpleNamespace(feed=lambda packets: ())
    ring._read(Reader([(0, 5), (4, 7), (7, 6), (6, 9)], -1), session, done)  # type: ignore[arg-type]
    assert done.disordered == 2
