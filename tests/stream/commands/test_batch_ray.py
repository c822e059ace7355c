"""Batches over a real Ray cluster, its nodes all on this machine: a node that dies, failures, parts, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stream.commands import offline
from stream.config import load_config
from tests.stream.command import call
from tests.stream.command import run as command
from tests.stream.commands.test_batch import LONG, SETTINGS, begun, digests, report, running, states
from tests.waiting import until

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
pytestmark = pytest.mark.system

# A node that is gone is noticed after a second and a half, not after half a minute.
_NOTICED_SOON = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_timeout_ms": 1000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without room for workers, and two nodes with room for one each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": _NOTICED_SOON}
        made = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            made.add_node(num_cpus=1)
        try:
            yield made
        finally:
            made.shutdown()


def actors(cluster: Any, out: Path) -> list[tuple[Any, psutil.Process]]:
    """Find node and process of each actor that writes into a folder."""
    found = []
    for node in cluster.worker_nodes:
        (raylet,) = node.all_processes["raylet"]
        for process in psutil.Process(raylet.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(Path(file.path).is_relative_to(out) for file in process.open_files()):
                    found.append((node, process))
    return found


def test_failures_and_parts_are_told_as_those_of_processes_are(cluster: Any, folder: Path, out: Path) -> None:
    data = (folder / "b.nire").read_bytes()
    (folder / "b.nire").write_bytes(data[: int(0.7 * len(data))])
    (folder / "empty.nire").touch()
    here = out.parent / "here"
    split = ("--split", "0.1", "--jobs", "2", *SETTINGS)
    by_ray = command("batch", folder, out, "--ray", cluster.address, *split)
    by_processes = command("batch", folder, here, *split)
    assert by_ray.code == by_processes.code == 3
    assert states(out) == states(here) == {"a": "done", "b": "failed", "empty": "failed"}
    assert [entry["reason"] for entry in report(out)["recordings"]] == [
        entry["reason"] for entry in report(here)["recordings"]
    ]
    assert all(digests(out / name) == digests(here / name) for name in ("a", "b"))
    assert by_ray.out.splitlines()[-1] == by_processes.out.splitlines()[-1].replace(str(here), str(out))


def test_interrupted_batch_ends_its_actors_and_leaves_the_cluster(cluster: Any, folder: Path, out: Path) -> None:
    with running(folder, out, "--ray", cluster.address, *LONG) as batch:
        until(lambda: begun(out / "a"))
        left = [process for _, process in actors(cluster, out)]
        assert left
        os.kill(batch.pid, signal.SIGINT)
        _, err = batch.communicate()
        assert batch.returncode == 3, err
    assert "interrupted before it was done" in err
    until(lambda: not any(process.is_running() for process in left))
    assert len(cluster.list_all_nodes()) == 3


def test_recordings_of_a_node_that_dies_are_done_on_another(cluster: Any, folder: Path, out: Path) -> None:
    with running(folder, out, "--ray", cluster.address, *LONG) as batch:
        until(lambda: begun(out / "a") and begun(out / "b"))
        ((node, _),) = actors(cluster, out / "a")
        cluster.remove_node(node, allow_graceful=False)
        _, err = batch.communicate()
        assert batch.returncode == 0, err
    assert "a: its worker died: " in err
    assert states(out) == {"a": "done", "b": "done"}
    assert ["node has died" in " ".join(entry["warnings"]) for entry in report(out)["recordings"]] == [True, False]
    assert digests(out / "a") == digests(out / "b")
    assert offline.run(load_config(None, LONG[1::2]), folder / "a.nire", out.parent / "alone") == 0
    assert digests(out / "a") == digests(out.parent / "alone")
    again = command("batch", folder, out, "--ray", cluster.address, *LONG)
    assert again.code == 0
    assert "2 of them done already" in again.out


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:10001"])
def test_cluster_that_is_not_there_is_refused_before_anything_is_written(
    folder: Path, out: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    done = call(capsys, "batch", folder, out, "--ray", address, *SETTINGS)
    assert done.code == 2
    assert f"--ray {address}: there is no Ray cluster to reach" in done.err
    assert "ray start --head" in done.err
    assert not out.exists()
