"""The engine that nobody named: the fastest that runs here, measured, and kept while it holds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import pytest
import torch
from torch import Tensor

from nire.engines import Job
from nire.errors import ConfigError, EngineMissing
from nire.explicit import choice
from nire.explicit import folding_loops as loops
from nire.explicit.engines import Cleaner, open_cleaner
from nire.explicit.evidence import Evidence, called_up
from nire.explicit.network import KeyPlaneNetwork
from tests.nire.explicit.inputs import TINY, random_evidence, trained_a_little


class Counted:
    """An engine that does nothing, and says what it was made for."""

    made: list[tuple[str, str]]

    def __init__(self, name: str, precision: str, pixels: int = 1) -> None:
        """Note that it was made."""
        self.name, self.precision, self.pixels = name, precision, pixels
        self.made.append((name, precision))

    def __call__(self, evidence: Evidence) -> Tensor:
        return evidence.moved[:, 0]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(16, 24, (2,), torch.device("cpu"), "auto", tmp_path)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], float | list[float]]:
    """Engines that take as long as a test says, in ms: a number, or one a run, the last of them from then on."""
    taken: dict[tuple[str, str], float | list[float]]
    taken = {("openvino", "fp32"): 30.0, ("openvino", "bf16"): 20.0, ("eager", "fp32"): 60.0, ("eager", "bf16"): 50.0}
    Counted.made = []

    def opened(name: str, network: KeyPlaneNetwork, job: Job) -> Cleaner:
        return Counted(name, job.precision)

    def seconds(cleaner: Cleaner, evidence: Evidence) -> float:
        assert isinstance(cleaner, Counted)
        cost = taken[cleaner.name, cleaner.precision]
        return (cost if isinstance(cost, float) else cost.pop(0) if len(cost) > 1 else cost[0]) / 1e3

    monkeypatch.setattr(choice, "_candidates", lambda job: list(taken))
    monkeypatch.setattr(choice, "open_cleaner", opened)
    monkeypatch.setattr(choice, "_seconds", seconds)
    return taken


def chosen(job: Job) -> tuple[str, str]:
    cleaner = choice.open_fastest(trained_a_little(), job)
    assert isinstance(cleaner, Counted)
    return cleaner.name, cleaner.precision


def test_fastest_is_taken_and_said(costs: dict, job: Job, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert chosen(job) == ("openvino", "bf16")
    assert "openvino in bf16, the fastest here" in caplog.text
    assert "eager in fp32: 60.0 ms" in caplog.text


def test_engines_are_compared_once_for_a_network_and_a_size(costs: dict, job: Job) -> None:
    chosen(job)
    costs["eager", "fp32"] = 1.0
    Counted.made.clear()
    assert chosen(job) == ("openvino", "bf16")
    assert Counted.made == [("openvino", "bf16")]
    other = Job(32, 24, (2,), job.device, "auto", job.cache)
    assert chosen(other) == ("eager", "fp32")


def test_load_in_most_rounds_does_not_decide(costs: dict, job: Job) -> None:
    costs["openvino", "bf16"] = [200.0, 150.0, 300.0, 90.0, 20.0, 80.0]
    costs["eager", "fp32"] = [25.0]
    assert chosen(job) == ("openvino", "bf16")


def test_engine_that_takes_minutes_for_a_window_is_not_run_again(costs: dict, job: Job) -> None:
    costs["eager", "fp32"] = [40_000.0, 1.0]  # ms: were it run again, it would be the fastest
    costs["eager", "bf16"] = 1.0
    assert chosen(job) == ("openvino", "bf16")


def test_torch_is_not_given_a_large_window_where_a_small_one_tells_that_it_cannot_win(
    costs: dict, job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, int]] = []

    def opened(name: str, network: KeyPlaneNetwork, job: Job) -> Cleaner:
        return Counted(name, job.precision, job.height * job.width)

    def seconds(cleaner: Cleaner, evidence: Evidence) -> float:
        assert isinstance(cleaner, Counted)
        assert evidence.gains[0].numel() == cleaner.pixels
        seen.append((cleaner.name, cleaner.pixels))
        return costs[cleaner.name, cleaner.precision] * cleaner.pixels * 1e-9

    monkeypatch.setattr(choice, "open_cleaner", opened)
    monkeypatch.setattr(choice, "_seconds", seconds)
    large = replace(job, height=720, width=1280)
    costs["eager", "fp32"] = 39.0
    with caplog.at_level(logging.INFO):
        assert chosen(large) == ("openvino", "bf16")
    assert "eager in bf16 would take" in caplog.text
    assert "eager in fp32: 35.9 ms" in caplog.text  # no twice the time: it is worth a try
    assert ("openvino", 720 * 1280) in seen
    assert seen.count(("eager", 720 * 1280)) > 1
    assert all(pixels < 110_000 for name, pixels in seen[:4])
    costs["eager", "fp32"] = 60.0
    seen.clear()
    assert chosen(replace(large, cache=job.cache / "other")) == ("openvino", "bf16")
    assert ("eager", 720 * 1280) not in seen


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_first_window_of_openvino_finds_its_loops_compiled(
    precision: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[tuple[str, ...]] = []

    def noting(loop: Callable[..., None]) -> Callable[..., None]:
        def noted(*arguments: Any) -> None:
            kinds.append((loop.__name__, *(str(numba.typeof(each)) for each in arguments)))
            loop(*arguments)

        return noted

    for name in ("fold", "blend"):
        monkeypatch.setattr(loops, name, noting(getattr(loops, name)))
    cleaner = open_cleaner("openvino", trained_a_little(), replace(job, precision=precision))
    compiled = set(kinds)
    cleaner(random_evidence(TINY, height=16, width=24))
    assert len(compiled) == 2
    assert set(kinds) == compiled


def test_loops_that_are_compiled_first_keep_no_engine_from_being_timed(costs: dict, job: Job) -> None:
    costs["openvino", "fp32"] = [40_000.0, 30.0]
    assert chosen(job) == ("openvino", "bf16")


def test_engine_is_chosen_where_each_takes_minutes(costs: dict, job: Job) -> None:
    costs |= {("openvino", "fp32"): 60_000.0, ("openvino", "bf16"): 50_000.0}
    assert chosen(job) == ("openvino", "fp32")


def test_choice_of_a_busy_machine_is_made_again_on_a_quiet_one(costs: dict, job: Job) -> None:
    costs |= {("openvino", "fp32"): 300.0, ("openvino", "bf16"): 200.0, ("eager", "fp32"): 120.0}
    costs["eager", "bf16"] = 130.0
    assert chosen(job) == ("eager", "fp32")
    costs |= {("openvino", "fp32"): 30.0, ("openvino", "bf16"): 20.0, ("eager", "fp32"): 60.0}
    assert chosen(job) == ("openvino", "bf16")
    Counted.made.clear()
    assert chosen(job) == ("openvino", "bf16")
    assert Counted.made == [("openvino", "bf16")]


def test_choice_of_a_quiet_machine_outlasts_a_busy_one(costs: dict, job: Job) -> None:
    chosen(job)
    costs["openvino", "bf16"] = 200.0
    Counted.made.clear()
    assert chosen(job) == ("openvino", "bf16")
    assert Counted.made == [("openvino", "bf16")]


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"openvino/fp32": "fast"}', b'{"openvino/fp32": null}', b"{}"])
def test_damaged_measurement_is_made_again(costs: dict, job: Job, content: bytes) -> None:
    chosen(job)
    (kept,) = (job.cache / "choice").glob("*/seconds.json")
    kept.write_bytes(content)
    assert chosen(job) == ("openvino", "bf16")
    assert len(kept.read_bytes()) > len(content)


def test_choice_that_does_not_run_any_more_is_made_again(costs: dict, job: Job) -> None:
    chosen(job)
    del costs["openvino", "bf16"]
    assert chosen(job) == ("openvino", "fp32")


def test_folder_that_cannot_be_written_costs_only_the_memory(costs: dict, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert chosen(Job(16, 24, (2,), torch.device("cpu"), "auto", tmp_path / "file")) == ("openvino", "bf16")


def test_what_is_chosen_computes_what_the_network_does(job: Job) -> None:
    given, network = random_evidence(TINY, height=16, width=24), trained_a_little()
    cleaner = choice.open_fastest(trained_a_little(), job)
    with torch.no_grad():
        error = (cleaner(given) - network(*called_up(given, (16, 24)))[0]).abs()
    assert error.max() < 0.05
    assert list((job.cache / "choice").glob("*/seconds.json"))


def test_torch_is_taken_where_openvino_cannot_run(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise EngineMissing(f"{name} is not here")

    monkeypatch.setattr("nire.engines.kept_graph.package", missing)
    assert choice.open_fastest(trained_a_little(), replace(job, precision="fp32")).name == "eager"


def test_precision_that_no_engine_has_is_refused(job: Job) -> None:
    with pytest.raises(ConfigError, match="int8"):
        choice.open_fastest(trained_a_little(), replace(job, precision="int8"))
