"""Batches over real processes: failures beside good work, what is skipped, a killed worker, the report."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nire.install import pip_install
from stream.batch.parts import Joining, in_parts
from stream.batch.worker import Ending, Order
from stream.commands import offline
from stream.config import load_config
from tests.golden import example
from tests.stream import packets
from tests.stream.command import ROOT, Done, call
from tests.stream.commands.test_offline import recorded
from tests.waiting import until

pytestmark = pytest.mark.system

SETTINGS = ("--set", "reconstructor.device=cpu", "--set", "plan.rate_hz=500")


def report(out: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((out / "batch.json").read_text())
    return value


def states(out: Path) -> dict[str, str]:
    return {entry["name"]: entry["state"] for entry in report(out)["recordings"]}


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of every image and of the lines."""
    files = [out / "frames.jsonl", *sorted((out / "frames").iterdir())]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_damaged_recordings_among_good_ones_are_named_with_their_reasons(
    folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (folder / "a.nire").read_bytes()
    (folder / "cut.nire").write_bytes(data[: len(data) // 2])
    (folder / "empty.nire").touch()
    done = call(capsys, "batch", folder, out, "--jobs", "2", *SETTINGS)
    assert done.code == 3
    assert states(out) == {"a": "done", "b": "done", "cut": "failed", "empty": "failed"}
    assert "failed: cut" in done.err
    assert "damaged; everything before the damage was used" in done.err
    assert "failed: empty" in done.err
    assert "is empty: no recording was written" in done.err
    assert report(out)["counts"] == {"done": 2, "skipped": 0, "failed": 2}
    assert report(out)["state"] == "done"
    assert "by a trial of a.nire about" in done.out or "is not known before" in done.out

    config = load_config(None, SETTINGS[1::2])
    assert offline.run(config, folder / "a.nire", out.parent / "alone") == 0
    assert digests(out / "a") == digests(out.parent / "alone")


def test_second_run_skips_what_is_valid_and_redoes_what_is_not(
    folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def batch(*more: str) -> Done:
        done = call(capsys, "batch", folder, out, *SETTINGS, *more)
        assert done.code == 0, done.err
        return done

    batch()
    before = digests(out / "a")
    assert "2 of them done already" in batch().out
    assert states(out) == {"a": "skipped", "b": "skipped"}

    (out / "a" / "frames" / "000003.png").unlink()
    batch()
    assert states(out) == {"a": "done", "b": "skipped"}
    assert digests(out / "a") == before

    recorded(folder / "b.nire", packets.usual()[:-20])
    batch()
    assert states(out) == {"a": "skipped", "b": "done"}

    batch("--set", "plan.rate_hz=250")
    assert states(out) == {"a": "done", "b": "done"}
    assert len(digests(out / "a")) < len(before)


def test_run_that_was_killed_is_not_taken_for_done(folder: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "batch", folder, out, *SETTINGS).code == 0
    told = json.loads((out / "a" / "run.json").read_text())
    (out / "a" / "run.json").write_text(json.dumps(told | {"state": "unfinished"}))
    assert call(capsys, "batch", folder, out, *SETTINGS).code == 0
    assert states(out) == {"a": "done", "b": "skipped"}


def test_answers_to_shutters_are_not_taken_for_those_to_the_plan(
    folder: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutters = tmp_path / "shutters.jsonl"
    shutters.write_text(json.dumps({"t_a_us": packets.START_US, "t_b_us": packets.START_US}))
    assert offline.run(load_config(None, SETTINGS[1::2]), folder / "a.nire", out / "a", shutters=shutters) == 0
    assert call(capsys, "batch", folder / "a.nire", out, *SETTINGS).code == 0
    assert states(out) == {"a": "done"}


def test_other_weights_are_other_work(
    folder: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "own.safetensors"
    shipped = (ROOT / "nire" / "weights" / "nano.safetensors").read_bytes()
    weights.write_bytes(shipped)
    settings = ("--set", "reconstructor.backend=neural", "--set", f"reconstructor.weights={weights}")
    plan = ("--set", "reconstructor.device=cpu", "--set", "plan.name=deblur", "--set", "reconstructor.engine=eager")
    (folder / "b.nire").unlink()
    assert call(capsys, "batch", folder, out, *settings, *plan).code == 0
    made_by = json.loads((out / "a" / "run.json").read_text())
    assert made_by["weights_sha256"] == hashlib.sha256(shipped).hexdigest()
    assert call(capsys, "batch", folder, out, *settings, *plan).code == 0
    assert states(out) == {"a": "skipped"}
    changed = bytearray(shipped)
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert call(capsys, "batch", folder, out, *settings, *plan).code == 0
    assert states(out) == {"a": "done"}


def test_overrides_of_a_manifest_are_for_their_recording_alone(
    folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = folder / "list.txt"
    manifest.write_text('a.nire\nb.nire {"plan": {"name": "deblur"}}\n')
    assert call(capsys, "batch", manifest, out, *SETTINGS).code == 0
    tags = [json.loads((out / name / "frames.jsonl").read_text().splitlines()[0])["tag"] for name in ("a", "b")]
    assert tags == ["upsample", "deblur"]


# Parts


ROLLING = ("reconstructor.backend=neural", "reconstructor.engine=eager")


@pytest.mark.parametrize(
    "settings",
    [("plan.name=deblur",), ("plan.name=unroll",), ("plan.name=reshutter",), ROLLING],
    ids=["deblur", "unroll", "reshutter", "rolling"],
)
def test_recording_in_parts_gives_the_bytes_of_one_run(
    folder: Path, out: Path, capsys: pytest.CaptureFixture[str], settings: tuple[str, ...]
) -> None:
    settings = (*SETTINGS, *(word for setting in settings for word in ("--set", setting)))
    (folder / "b.nire").unlink()
    recorded(folder / "c.nire", packets.usual()[:12])
    assert offline.run(load_config(None, settings[1::2]), folder / "a.nire", out.parent / "whole") == 0
    assert call(capsys, "batch", folder, out, "--split", "0.1", "--jobs", "3", *settings).code == 0
    assert digests(out / "a") == digests(out.parent / "whole")
    of_parts, of_whole = (json.loads((each / "run.json").read_text()) for each in (out / "a", out.parent / "whole"))
    assert of_parts == of_whole
    assert sorted(path.name for path in out.iterdir()) == ["a", "batch.json", "c"]
    assert call(capsys, "batch", folder, out, "--split", "0.1", *settings).code == 0
    assert states(out) == {"a": "skipped", "c": "skipped"}


def test_damaged_recording_in_parts_gives_all_before_the_damage(
    folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (folder / "a.nire").read_bytes()
    (folder / "b.nire").write_bytes(data[: int(0.7 * len(data))])
    assert offline.run(load_config(None, SETTINGS[1::2]), folder / "b.nire", out.parent / "whole") == 4
    done = call(capsys, "batch", folder / "b.nire", out, "--split", "0.1", "--jobs", "2", *SETTINGS)
    assert done.code == 3
    assert "failed: b" in done.err
    assert digests(out / "b") == digests(out.parent / "whole")


def test_parts_that_were_made_by_different_engines_are_not_joined(folder: Path, out: Path) -> None:
    config = load_config(None, SETTINGS[1::2])
    whole = Order("a", folder / "a.nire", out / "a", config)
    parts = in_parts(whole, 0.1, 2)
    joining = Joining()
    for part in parts:
        assert offline.run(config, part.recording, part.out, part=part.part) == 0
    run = parts[1].out / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | {"engine": "another"}))
    assert joining.take(parts[0], Ending("")) is None
    ended = joining.take(parts[1], Ending(""))
    assert ended is not None
    assert "its parts differ in engine" in ended[1].reason
    assert not (out / "a").exists()
    assert not (out / ".parts").exists()


@contextlib.contextmanager
def running(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "stream.cli", "batch", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as batch:
        try:
            yield batch
        finally:
            batch.kill()


def worker_at(batch: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(batch.pid).children():
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).strip() == f"nire-live batch {name}":
                found.append(process)
    return found


def begun(out: Path) -> bool:
    return (out / "frames").is_dir() and len(list((out / "frames").iterdir())) > 3


LONG = ("--set", "reconstructor.device=cpu", "--set", "plan.rate_hz=20000")


def test_recording_of_a_killed_worker_is_done_by_another(folder: Path, out: Path) -> None:
    with running(folder, out, "--jobs", "1", *LONG) as batch:
        until(lambda: begun(out / "a") and worker_at(batch, "a"))
        worker_at(batch, "a")[0].kill()
        _, err = batch.communicate()
        assert batch.returncode == 0, err
    assert states(out) == {"a": "done", "b": "done"}
    assert digests(out / "a") == digests(out / "b")


def test_recording_that_kills_every_worker_fails_and_the_others_are_done(folder: Path, out: Path) -> None:
    with running(folder, out, "--jobs", "1", *LONG) as batch:
        for _ in range(3):
            until(lambda: begun(out / "a") and worker_at(batch, "a"))
            victim = worker_at(batch, "a")[0]
            victim.kill()
            victim.wait()
            until(lambda gone=victim.pid: gone not in [p.pid for p in psutil.Process(batch.pid).children()])
        _, err = batch.communicate()
        assert batch.returncode == 3, err
    assert "its worker died 3 times, the last time killed by SIGKILL" in err
    assert states(out) == {"a": "failed", "b": "done"}


def test_interrupted_batch_says_what_is_not_done_and_leaves_no_process(folder: Path, out: Path) -> None:
    with running(folder, out, "--jobs", "1", *LONG) as batch:
        until(lambda: begun(out / "a"))
        workers = psutil.Process(batch.pid).children()
        os.kill(batch.pid, signal.SIGINT)
        _, err = batch.communicate()
        assert batch.returncode == 3, err
    assert "interrupted before it was done" in err
    assert set(states(out).values()) == {"failed"}
    until(lambda: not any(process.is_running() for process in workers))


def test_workers_end_when_the_batch_is_killed(folder: Path, out: Path) -> None:
    with running(folder, out, "--jobs", "1", *LONG) as batch:
        until(lambda: begun(out / "a"))
        workers = [*psutil.Process(batch.pid).children()]
        batch.kill()
        until(lambda: not any(process.is_running() for process in workers))
    assert report(out)["state"] == "unfinished"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a.toml"], "recordings and output folder are missing"),
        (["in"], "the output folder is missing after in"),
        (["in", "in/a.nire"], "in/a.nire is a file, expected the output folder"),
        (["in", "out", "a.toml", "b.toml"], "two configs"),
        (["gone", "out"], "there is no gone"),
        (["in", "out", "--set", "plan.rate=3"], "plan.rate"),
        (["in", "out", "--output", "vidio"], "vidio"),
    ],
)
def test_what_cannot_be_started_is_refused_before_anything_is_written(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(capsys, "batch", *words)
    assert done.code == 2
    assert told in done.err
    assert not (tmp_path / "out").exists()


def test_missing_ray_is_told_with_the_command_that_installs_it(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = call(capsys, "batch", folder, out, "--ray", "auto", *SETTINGS)
    assert done.code == 2
    assert f"--ray auto needs Ray, which is not installed: {pip_install('ray')}" in done.err
    assert not out.exists()


def test_recording_with_a_folder_of_somebody_else_fails_alone(
    folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.write_recording(folder / "c.nire")
    (out / "a").mkdir(parents=True)
    (out / "a" / "notes.txt").write_text("mine")
    done = call(capsys, "batch", folder, out, *SETTINGS)
    assert done.code == 3
    assert states(out) == {"a": "failed", "b": "done", "c": "done"}
    assert "holds files that no run of 'offline' wrote: notes.txt" in done.err
