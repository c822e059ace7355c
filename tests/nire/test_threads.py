"""Work that several threads do."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from nire.threads import bands, begin, side_by_side


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    assert side_by_side(lambda n: n * n, range(7), threads) == [0, 1, 4, 9, 16, 25, 36]


def test_threads_work_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=60)
    assert sorted(side_by_side(lambda _: both.wait(), range(2), 2)) == [0, 1]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_thread_raises_is_raised(threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 / n, [1, 0], threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_begun_ends_when_it_is_asked_for(threads: int) -> None:
    assert begin(lambda n: n + 1, [1, 2], threads)() == [2, 3]


def test_who_begins_works_meanwhile() -> None:
    both = threading.Barrier(2, timeout=60)
    begun = begin(lambda _: both.wait(), [0], 2)
    other = both.wait()
    assert sorted([other, *begun()]) == [0, 1]


@pytest.mark.parametrize(("rows", "threads"), [(136, 2), (5, 3), (2, 4), (0, 2)])
def test_bands_are_all_rows_once(rows: int, threads: int) -> None:
    split = bands(rows, threads)
    assert [row for first, end in split for row in range(first, end)] == list(range(rows))
    assert len(split) == threads


@pytest.mark.parametrize(
    ("command", "policy", "told"),
    [("version", None, "1000"), ("train", None, "None"), ("version", "active", "None")],
)
def test_commands_let_go_of_cores_where_nobody_says_otherwise(
    command: str, policy: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    program = "import atexit, os; atexit.register(lambda: print(os.environ.get('GOMP_SPINCOUNT')))\n"
    program += f"from stream.cli import main; main(['{command}', '--help'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1] == told
