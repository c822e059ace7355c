"""The command for a machine with a GPU: a dry run of all its steps here, what it does without packages, its kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import correct, physics
from benchmarks.gpu.steps import STEPS, Step
from benchmarks.gpu.summary import summary
from tests.stream.command import ROOT

pytestmark = pytest.mark.system

_ABSENT = ["numba", "safetensors", "rich", "cv2", "skimage", "zmq", "typer", "pydantic", "msgpack", "dv_processing"]


def measured(out: Path, *words: str, **environment: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--minutes", "100", "--out", str(out), *words]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_dry_run_takes_every_step_and_nothing_fails(tmp_path: Path) -> None:
    found = measured(tmp_path / "out")
    assert list(dict.fromkeys(result["step"] for result in found)) == [step.name for step in STEPS]
    assert [result for result in found if "failed" in result or "stopped" in result] == []
    assert {result["case"] for result in found if result.get("is_right")} >= {"eager fp32", "eager bf16", "24x6 Q3"}
    assert {result["step"] for result in found if "frames_per_s" in result} >= {"eager", "compiled", "physics"}
    skipped = {result["step"]: result["skipped"] for result in found if "skipped" in result}
    assert "needs an NVIDIA GPU" in skipped["cudagraph"]
    (trained,) = [result for result in found if result["step"] == "training"]
    assert trained["iterations"] == 2
    page = (tmp_path / "out" / "summary.md").read_text()
    assert all(f"## {step.name}\n" in page for step in STEPS)


def test_without_packages_it_says_what_to_install_and_does_what_it_can(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({_ABSENT!r}))\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    found = measured(tmp_path / "out", "--only", "device", "--only", "physics", "--only", "training", PYTHONPATH=path)
    (training,) = [result for result in found if result["step"] == "training"]
    assert "pip install opencv-python-headless scikit-image safetensors rich" in training["skipped"]
    assert [result["is_right"] for result in found if result.get("way") == "torch"] == [True]


def test_all_that_needs_no_more_than_torch_is_imported_without_the_rest() -> None:
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({_ABSENT!r}))\n"
        "from benchmarks.gpu import child; child._stand_in()\n"
        "from benchmarks.gpu import correct, device, engines, physics\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_folder_of_other_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("{}\n")
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "choose another --out" in done.stderr
    assert (tmp_path / "results.jsonl").read_text() == "{}\n"


def test_step_at_its_limit_is_stopped_and_the_next_ones_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--minutes", "0.0001", "--only", "eager"]
    done = subprocess.run(
        [*command, "--only", "tensorrt", "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    eager, _ = [json.loads(line) for line in done.stdout.splitlines()[:2]]
    assert eager["step"] == "eager"
    assert "at its limit" in eager["stopped"]


def test_needs_that_are_not_there_are_told_with_the_command_that_installs_them() -> None:
    assert (
        Step("x", "x", 1.0, needs=("no_such_thing", "sys")).missing()
        == "needs no_such_thing: pip install no_such_thing"
    )
    assert Step("x", "x", 1.0, needs=("json",)).missing() == ""


def test_shares_of_the_steps_are_the_whole_time() -> None:
    assert sum(step.share for step in STEPS) == pytest.approx(1.0)


def test_summary_has_a_table_for_each_kind_of_result_and_tells_troubles() -> None:
    page = summary(
        [
            {"step": "eager", "case": "a", "build_ms": 1.23456, "is_right": True},
            {"step": "eager", "case": "b", "build_ms": 12345.6, "is_right": False},
            {"step": "eager", "case": "b", "queries": 8, "failed": "no memory"},
        ]
    )
    assert "| a | 1.235 | yes |\n| b | 12,346 | NO |" in page
    assert "- b 8: failed: no memory" in page


@pytest.mark.parametrize("queries", [1, 5])
def test_kernel_computes_what_torch_does(queries: int, tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="triton is not installed; it comes with CUDA builds of torch")
    program = (
        "from benchmarks.gpu import fused, physics\n"
        f"given = physics.window(5, 19, {queries}, steps=8, batch=2)\n"
        "found = physics.difference(fused.exposed(*given), physics.by_torch(*given))\n"
        "assert found['is_right'], found\n"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", ["eager", "cudagraph", "compiled"])
def test_engines_on_a_gpu_compute_what_torch_does_on_the_cpu(engine: str, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    assert correct.compared(engine, precision, Namespace(dry_run=False))["is_right"]


@pytest.mark.gpu
def test_kernel_on_a_gpu_computes_what_torch_does_on_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    from benchmarks.gpu import fused

    given = physics.window(60, 100, 9, steps=48)
    images = fused.exposed(*(tensor.cuda() for tensor in given)).cpu()
    assert physics.difference(images, physics.by_torch(*given))["is_right"]
