"""Which engine runs: by name, by dotted name, or by what is there."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nire.engines import Job, choice
from nire.engines.choice import check_engine, engines, open_engine
from nire.engines.eager import EagerEngine
from nire.errors import ConfigError, EngineError, EngineMismatch, EngineMissing
from nire.network import weights
from tests.nire.network import tiny

CPU = torch.device("cpu")


def job(tmp_path: Path, *, device: torch.device = CPU, precision: str = "fp32") -> Job:
    return Job(tiny.HEIGHT, tiny.WIDTH, (), device, precision, tmp_path)


def test_engines_are_found_by_file() -> None:
    assert engines() == ["compiled", "cudagraph", "eager", "openvino", "tensorrt"]


@pytest.mark.parametrize("name", ["cache", "fastest", "no.such.module"])
def test_unknown_engine_is_refused_with_those_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s){name}.*compiled.*eager"):
        open_engine(name, tiny.network(), job(tmp_path))


def test_engine_outside_the_package_is_found_by_its_dotted_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("mylab.fast")
    module.create = EagerEngine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mylab", ModuleType("mylab"))
    monkeypatch.setitem(sys.modules, "mylab.fast", module)
    assert open_engine("mylab.fast", tiny.network(), job(tmp_path)).name == "eager"


@pytest.mark.parametrize("problem", [EngineMissing("no package"), EngineMismatch("another GPU"), ConfigError("int8")])
def test_auto_passes_over_what_cannot_run_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, problem: Exception
) -> None:
    def create(*_: object) -> None:
        raise problem

    monkeypatch.setattr("nire.engines.openvino.create", create)
    with caplog.at_level(logging.INFO):
        engine = open_engine("auto", tiny.network(), job(tmp_path))
    assert engine.name == "eager"
    assert f"openvino is passed over: {problem}" in caplog.text
    assert "engine: eager" in caplog.text


def test_auto_takes_the_first_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Fast(EagerEngine):
        name = "fast"

    monkeypatch.setattr("nire.engines.openvino.create", Fast)
    with caplog.at_level(logging.INFO):
        assert open_engine("auto", tiny.network(), job(tmp_path)).name == "fast"
    assert "engine: fast" in caplog.text


def test_auto_takes_nothing_that_was_never_run() -> None:
    assert "cudagraph" not in choice.ORDER["cuda"]
    assert "tensorrt" not in choice.ORDER["cuda"]


def test_auto_refuses_a_precision_that_no_engine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match="int8"):
        open_engine("auto", tiny.network(), job(tmp_path, precision="int8"))


@pytest.mark.parametrize("name", ["cudagraph", "tensorrt"])
def test_gpu_engines_say_that_they_need_a_gpu(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineMissing, match="NVIDIA GPU"):
        open_engine(name, tiny.network(), job(tmp_path))


def test_tensorrt_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    with pytest.raises(EngineMissing, match="pip install torch-tensorrt"):
        open_engine("tensorrt", tiny.network(), job(tmp_path, device=torch.device("cuda")))


def test_openvino_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineMissing, match="pip install openvino"):
        open_engine("openvino", tiny.network(), job(tmp_path))


def test_openvino_refuses_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match="runs on CPUs"):
        open_engine("openvino", tiny.network(), job(tmp_path, device=torch.device("cuda")))


def test_compiled_says_that_it_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"g\+\+"):
        open_engine("compiled", tiny.network(), job(tmp_path))


@pytest.mark.parametrize(
    ("name", "device", "precision"),
    [
        ("fastest", "cpu", "fp32"),
        ("auto", "cpu", "int8"),
        ("eager", "cpu", "int8"),
        ("compiled", "cpu", "int8"),
        ("openvino", "cpu", "fp16"),
        ("openvino", "cpu", "fp32"),
        ("openvino", "cuda", "fp32"),
        ("cudagraph", "cpu", "fp32"),
        ("tensorrt", "cpu", "fp32"),
        ("tensorrt", "cuda", "fp32"),
    ],
)
def test_check_refuses_in_the_words_of_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, device: str, precision: str
) -> None:
    for package in ("openvino", "torch_tensorrt"):
        monkeypatch.setitem(sys.modules, package, None)
    wanted = job(tmp_path, device=torch.device(device), precision=precision)
    with pytest.raises((ConfigError, EngineError)) as opened:
        open_engine(name, tiny.network(), wanted)
    with pytest.raises(type(opened.value)) as checked:
        check_engine(name, weights.unfilled(tiny.TINY), wanted)
    assert str(checked.value) == str(opened.value)


def test_check_names_what_opening_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    for name in ("auto", "eager"):
        assert check_engine(name, weights.unfilled(tiny.TINY), job(tmp_path)) == "eager"
        assert open_engine(name, tiny.network(), job(tmp_path)).name == "eager"


def test_check_passes_over_engines_that_take_minutes_to_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nire.engines.openvino.check", lambda *_: None)
    assert check_engine("auto", weights.unfilled(tiny.TINY), job(tmp_path)) == "openvino"
    monkeypatch.setattr(choice, "_QUICKLY_MADE", 1)
    assert check_engine("auto", weights.unfilled(tiny.TINY), job(tmp_path)) == "eager"


def test_auto_does_not_convert_a_network_that_would_take_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("nire.engines.openvino.create", lambda *_: asked.append(1))
    monkeypatch.setattr(choice, "_QUICKLY_MADE", 1)
    with caplog.at_level(logging.INFO):
        assert open_engine("auto", tiny.network(), job(tmp_path)).name == "eager"
    assert not asked
    assert "minutes" in caplog.text
