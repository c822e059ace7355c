"""The supervisor with small processes of its own: order, restarts, refusals, stuck and deaf ones."""

from __future__ import annotations

import os
import signal
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from nire.errors import RingError
from stream.config import Config
from stream.config_sections import SourceConfig
from stream.processes import supervised, supervisor
from stream.processes.board import Board, State
from stream.processes.supervisor import Job, process_table
from stream.rings.place import RingSpace
from stream.rings.ring import sweep
from stream.sources import SourceOrder

pytestmark = pytest.mark.system


def job(name: str, main: str, *arguments: Any, stuck_s: float = 15.0) -> Job:
    return Job(name, f"tests.stream.processes.supervised_jobs:{main}", arguments, stuck_s)


class Stream:
    """Runs a table; signals itself once all of `wait_for` are ready."""

    def __init__(self) -> None:
        self.config = Config(source=SourceConfig(name=f"test-{uuid.uuid4().hex[:8]}"))
        self.lives: dict[str, int] = {}

    def run(self, *table: Job, interrupt: int | None = None) -> int:
        def look(board: Board) -> None:
            rows = [board.row(name) for name in board.names]
            self.lives = {row.name: row["lives"] for row in rows}
            if interrupt is not None and all(row.state == State.READY for row in rows):
                os.kill(os.getpid(), interrupt)

        code = supervisor.run(self.config, SourceOrder(), table=list(table), on_tick=look)
        space = RingSpace.of(self.config.stream_name)
        assert not space.root.exists()
        assert space.leftovers() == []
        return code


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_processes_stop_in_reverse_order(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupt: int
) -> None:
    monkeypatch.setattr(supervisor, "STEP_S", 120.0)  # on a busy machine one that is asked to stop takes its time
    ends = tmp_path / "ends"
    handler = signal.getsignal(signal.SIGINT)
    code = stream.run(*(job(name, "steady", ends) for name in ("first", "second", "third")), interrupt=interrupt)
    assert code == 0
    assert ends.read_text().split() == ["third", "second", "first"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_stream_ends_when_all_are_done(stream: Stream) -> None:
    assert stream.run(job("one", "done"), job("two", "done")) == 0


def test_killed_process_is_started_again(stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    assert stream.run(job("one", "killed", 3)) == 0
    assert stream.lives["one"] == 3
    assert "[one] these are my last words" in capsys.readouterr().err


def test_process_that_lost_its_gpu_says_so_and_is_started_again(
    stream: Stream, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stream.run(job("one", "loses_gpu")) == 0
    assert stream.lives["one"] == 2
    error = capsys.readouterr().err
    assert "this process has lost the GPU; see nvidia-smi" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("policy", [None, "active"])
def test_threads_of_a_process_soon_sleep_while_they_wait_unless_the_user_says_otherwise(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str | None
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if policy is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    assert stream.run(job("one", "waits_asleep", tmp_path / "told")) == 0
    assert (tmp_path / "told").read_text() == ("1000" if policy is None else "not said")


def test_process_that_keeps_dying_ends_the_stream_with_its_last_lines(
    stream: Stream, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (supervised, supervisor):  # on a busy machine six lives may take longer than a minute
        monkeypatch.setattr(module, "RESTARTS_WITHIN_S", 3600.0)
    assert stream.run(job("healthy", "steady", tmp_path / "ends"), job("one", "killed", 99)) == 1
    error = capsys.readouterr().err
    assert f"ended {supervisor.RESTARTS + 1} times within 3600 s" in error
    assert "    these are my last words" in error
    assert "SIGKILL" in error
    assert (tmp_path / "ends").read_text() == "healthy\n"


def test_optional_processes_never_end_the_others_and_the_last_lines_tell(
    stream: Stream, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (supervised, supervisor):
        monkeypatch.setattr(module, "RESTARTS_WITHIN_S", 3600.0)
    without = {"refuses": (), "fails_at_once": (), "killed": (99,), "has_no_memory": ()}
    table = [replace(job(name, name, *arguments), optional=True, holds_go=True) for name, arguments in without.items()]
    assert stream.run(job("main", "outlives", list(without)), *table) in (1, 2)
    error = capsys.readouterr().err
    assert "[main] I have outlived them" in error
    summary = error[error.rindex("I have outlived them") :]
    for name in without:
        assert f"error: the stream went on without its {name}, which " in summary
    assert "do something else" in summary
    assert "RuntimeError: a bug" in summary
    assert (
        "has_no_memory, which was ended by SIGBUS (memory that it wrote to could not be had: /dev/shm is full"
        in summary
    )
    assert stream.lives["killed"] == supervisor.RESTARTS + 1


def test_exit_code_is_that_of_the_optional_process_that_refused(stream: Stream) -> None:
    table = job("main", "outlives", ["refuses"]), replace(job("refuses", "refuses"), optional=True)
    assert stream.run(*table) == 2


def test_spare_takes_over_with_what_it_has_made_ready_and_what_was_kept(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "_SPARE_AFTER_S", 0.0)
    told = tmp_path / "told"
    spare = "tests.stream.processes.supervised_jobs:make_ready"
    assert stream.run(replace(job("one", "has_a_spare", told), spare=spare)) == 0
    assert stream.lives["one"] == 2
    assert told.read_text() == "True True seven"


def test_spare_ends_with_its_stream(stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "_SPARE_AFTER_S", 0.0)
    told = tmp_path / "told"
    spare = "tests.stream.processes.supervised_jobs:make_ready"
    assert stream.run(replace(job("one", "done_once_there", told), spare=spare)) == 0
    assert not psutil.pid_exists(int(told.read_text()))


def test_refusal_is_not_tried_again_and_shows_no_traceback(stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    assert stream.run(job("one", "refuses")) == 2
    error = capsys.readouterr().err
    assert "do something else" in error
    assert "Traceback" not in error


def test_bug_before_a_process_is_ready_is_not_tried_again(stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    assert stream.run(job("one", "fails_at_once")) == 1
    error = capsys.readouterr().err
    assert "RuntimeError: a bug" in error
    assert "never got ready" in error


def test_process_without_a_sign_of_life_is_killed_and_started_again(stream: Stream) -> None:
    assert stream.run(job("one", "falls_silent", stuck_s=2.0)) == 0
    assert stream.lives["one"] == 2


def test_wedged_producer_is_replaced_though_clients_flood_it(stream: Stream) -> None:
    assert stream.run(job("consumer", "floods"), job("producer", "wedged", stuck_s=2.0)) == 0
    assert stream.lives["producer"] == 2


def test_deaf_process_is_killed_in_the_end(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STEP_S", 0.2)
    assert stream.run(job("one", "deaf"), interrupt=signal.SIGINT) == 1


def test_second_supervisor_of_one_name_is_refused(stream: Stream) -> None:
    with (
        Board.create(stream.config.stream_name, ["a"]) as board,
        pytest.raises(RingError, match="running already"),
    ):
        supervisor.run(stream.config, SourceOrder(), table=[job("one", "done")])
    board.remove()
    sweep(stream.config.stream_name)


def test_process_table_holds_what_was_asked_for(tmp_path: Path) -> None:
    names = [job.name for job in process_table(Config(), SourceOrder(), preview=False, record_to=None)]
    assert names == ["consumer", "producer"]
    table = process_table(Config(), SourceOrder(), preview=True, record_to=tmp_path / "a.nire")
    assert [job.name for job in table] == ["consumer", "recorder", "preview", "producer"]
    assert [job.name for job in table if job.optional] == ["recorder", "preview"]
