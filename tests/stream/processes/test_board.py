"""The board of counters and its latency histogram."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nire.errors import RingError
from nire.types import Stamps
from stream.processes.board import COUNTERS, Board, State, private_kb
from stream.processes.latency import LatencyHistogram, RecentLatency
from stream.processes.status import Rates, StageLatencies
from stream.rings.place import RingSpace, is_held
from stream.rings.ring import sweep
from stream.session.tally import Indices, Place


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    sweep(name)
    assert RingSpace.of(name).leftovers() == []


def test_counters_written_by_one_are_read_by_another(name: str) -> None:
    with Board.create(name, ["producer", "consumer"]) as mine, Board.open(name) as theirs:
        row = mine.row("consumer")
        row.begin()
        for k, counter in enumerate(COUNTERS):
            row[counter] = k
        row["state"] = State.RUNNING
        row.latency.add(3_000_000)
        seen = theirs.row("consumer").values()
        assert seen["state"] == "running"
        assert seen["latency_ms_p50"] == pytest.approx(3.0, rel=0.06)
        assert [seen[counter] for counter in COUNTERS[3:]] == list(range(3, len(COUNTERS)))
        assert theirs.row("producer")["heartbeat_ns"] == 0


def test_second_board_of_a_running_stream_is_refused(name: str) -> None:
    with Board.create(name, ["a"]), pytest.raises(RingError, match=rf"{name}.*running already"):
        Board.create(name, ["a"])


def test_name_is_free_again_when_its_holder_has_left(name: str) -> None:
    Board.create(name, ["a"]).close()
    with Board.create(name, ["a", "b"]) as board:
        assert board.names == ["a", "b"]
        assert board.row("b").state == State.ABSENT


def test_board_in_use_survives_a_sweep(name: str) -> None:
    with Board.create(name, ["a"]):
        assert not sweep(name)
        Board.open(name).close()
    assert sweep(name)
    assert RingSpace.of(name).leftovers() == []


def test_new_life_of_a_process_is_counted_and_counts_on(name: str) -> None:
    with Board.create(name, ["a"]) as board:
        row = board.row("a")
        row.begin()
        row["events_in"] = 5
        row.beat(State.RUNNING)
        row.begin()
        assert (row["lives"], row["events_in"], row.state) == (2, 5, State.STARTING)


def test_indices_on_the_board_outlive_their_process(name: str) -> None:
    with Board.create(name, ["a", "b"]) as mine, Board.open(name) as theirs:
        mine.row("b")["gaps"] = 3
        Indices(mine.index_memory).hand_out("upsample", 41, place=Place(1e6, 5, 2), window=9)
        successor = Indices(theirs.index_memory)
        assert successor.give("upsample")[0] == 42
        assert successor.last("upsample") == (1e6, 5, 2)
        assert successor.window == 10
        assert theirs.row("b")["gaps"] == 3


def test_row_that_does_not_exist_names_those_that_do(name: str) -> None:
    with Board.create(name, ["a", "b"]) as board, pytest.raises(RingError, match="a, b"):
        board.row("c")


def test_board_of_no_stream_says_so(name: str) -> None:
    with pytest.raises(RingError, match="no stream named"):
        Board.open(name)


def test_quantiles_are_within_five_percent() -> None:
    durations_ns = np.random.default_rng(1).lognormal(16, 1, 5000).astype(int)
    histogram = LatencyHistogram()
    for duration_ns in durations_ns.tolist():
        histogram.add(duration_ns)
    for q in (0.5, 0.99):
        assert histogram.quantile_ms(q) == pytest.approx(np.quantile(durations_ns, q) / 1e6, rel=0.06)


def test_histogram_takes_any_duration() -> None:
    histogram = LatencyHistogram()
    assert histogram.quantile_ms(0.5) is None
    for duration_ns in (-5, 0, 1, 10**15):
        histogram.add(duration_ns)
    assert histogram.counts.sum() == 4


def test_recent_latency_forgets() -> None:
    recent = RecentLatency(period_ns=1000)
    recent.add(5_000_000, now_ns=10_000)
    assert recent.quantile_ms(0.5, now_ns=11_500) is not None
    assert recent.quantile_ms(0.5, now_ns=14_000) is None


def test_frame_of_unknown_arrival_counts_no_total() -> None:
    stages = StageLatencies()
    stages.add(Stamps(0.0, 0, 1_000_000, 3_000_000, 4_000_000))
    values = stages.values(4_000_000)
    assert values["total"]["p50"] is None
    assert values["expose"]["p50"] == pytest.approx(2.0, rel=0.06)


def test_rates_are_per_second_between_two_ticks(name: str) -> None:
    with Board.create(name, ["a"]) as board:
        row, rates = board.row("a"), Rates()
        rates.tick(row, 0)
        row["exposed"] = 200
        rates.tick(row, 500_000_000)
        assert rates.values["exposed"] == pytest.approx(400)


def test_private_memory_is_measured() -> None:
    assert private_kb() > 1000


def test_place_is_in_the_runtime_folder_where_that_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        name = f"test-{uuid.uuid4().hex[:8]}"
        with Board.create(name, ["a"]) as board:
            space = RingSpace.of(name)
            assert space.root.parent == Path(folder) / "nire-live"
            assert space.root.stat().st_mode & 0o777 == 0o700
            assert {path.stat().st_mode & 0o077 for path in space.leftovers()} <= {0, 0o044}
            board.remove()
        sweep(name)
        assert list(Path(folder).iterdir()) == []
        Path(folder).chmod(0o755)
        assert not RingSpace.of(name).root.is_relative_to(folder)


def test_each_life_of_a_stream_has_names_of_its_own(name: str) -> None:
    prefixes = []
    for _ in range(2):
        with Board.create(name, ["a"]) as board:
            prefixes.append(RingSpace.of(name).prefix)
            board.remove()
        sweep(name)
    assert prefixes[0] != prefixes[1]
    assert all(len(prefix) > len(RingSpace.of(name).stem) for prefix in prefixes)


def test_traps_with_the_names_of_a_stream_are_not_opened(name: str, tmp_path: Path) -> None:
    with Board.create(name, ["a"]) as board:
        path = RingSpace.of(name).shared_file("board")
        path.unlink()
        os.mkfifo(path)  # opening it would wait for ever
        assert not is_held(path)
        with pytest.raises(RingError, match="no stream named"):
            Board.open(name)
        path.unlink()
        path.symlink_to(tmp_path / "precious")
        with pytest.raises(RingError, match="no stream named"):
            Board.open(name)
        board.remove()
    assert list(tmp_path.iterdir()) == []
