"""Settings of a run: what is refused, and that the shipped file is good."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from nire.errors import ConfigError
from nire.network import weights
from nire.training.__main__ import main, network_config
from nire.training.settings import TASKS, ModelSettings, Settings, parse_settings, read_settings
from tests.nire.training.rooms import write_images

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("train_*.toml")), ids=lambda path: path.name)
def test_shipped_settings_are_good(path: Path) -> None:
    settings = read_settings(path)
    assert set(settings.data.tasks) <= set(TASKS)
    assert network_config(settings.model).size == settings.model.size


def test_ablations_of_the_paper_map_are_settings() -> None:
    text = (CONFIGS.parent / "docs" / "paper-map.md").read_text(encoding="utf-8").split("```\n")[1]
    every = parse_settings(tomllib.loads(text.replace("# use_", "use_")))
    assert every.model.change.keys() > {"use_events", "use_time_encoding", "use_enhancement"}
    assert set(every.model.change.values()) == {"learned", "joint", False}
    assert network_config(every.model).size == "base"
    assert network_config(parse_settings(tomllib.loads(text)).model).use_enhancement


def test_empty_document_gives_the_defaults() -> None:
    assert parse_settings({}) == Settings()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"dat": {}}, "unknown key dat; the keys are model, data"),
        ({"data": {"crop": 3}}, "data: unknown key crop"),
        ({"data": {"batch": 2.5}}, "data: batch = 2.5, expected int"),
        ({"data": {"batch": True}}, "data: batch = True, expected int"),
        ({"data": {"batch": 0}}, "data.batch = 0, expected at least 1"),
        ({"data": {"readout_share": 3.0}}, "data.readout_share = 3.0, expected 0 to 1"),
        ({"data": {"drop_share": -0.1}}, "data.drop_share = -0.1, expected 0 to 1"),
        ({"data": {"noise": "loud"}}, "data.noise = 'loud', expected one of realistic, ideal, mixed"),
        ({"data": {"tasks": {"fly": 1}}}, "data.tasks has 'fly', expected some of deblur"),
        ({"data": {"tasks": {"deblur": 0}}}, "data.tasks asks for nothing"),
        ({"data": 3}, "data must be a table"),
        ({"run": {"bf16": "yes"}}, "run: bf16 = 'yes', expected bool"),
    ],
)
def test_wrong_settings_are_refused_by_name(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(document)
    assert message in str(caught.value)


def test_whole_numbers_serve_where_shares_are_wanted() -> None:
    assert parse_settings({"optimiser": {"clip_norm": 2}}).optimiser.clip_norm == 2.0


def test_network_of_a_size_can_be_changed_by_field() -> None:
    config = network_config(ModelSettings(size="nano", change={"film": "learned"}))
    assert (config.size, config.film) == ("nano", "learned")
    with pytest.raises(ConfigError, match="unknown wings; the fields are"):
        network_config(ModelSettings(size="nano", change={"wings": 2}))


def test_command_trains_and_leaves_weights_that_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "quick.toml"
    config.write_text(
        "[data]\ncrop_px = 32\nbatch = 1\nqueries = 1\ntiles = 4\nsprites = 4\n"
        '[optimiser]\niterations = 2\n[run]\ndevice = "cpu"\nthreads = 1\nvalidation_windows = 1\n'
    )
    images = write_images(tmp_path / "images", count=3)
    assert main([str(config), "--images", str(images), "--out", str(tmp_path / "out")]) == 0
    assert "2 iterations done" in capsys.readouterr().out
    assert weights.load(tmp_path / "out" / "nano.safetensors").config.size == "nano"
    assert weights.metadata(tmp_path / "out" / "nano.safetensors")["iterations"] == "2"
    assert main([str(config), "--images", str(images), "--out", str(tmp_path / "out")]) == 2
    assert "--resume" in capsys.readouterr().err


def test_command_explains_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.toml")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    (tmp_path / "bad.toml").write_text("[data\n")
    assert main([str(tmp_path / "bad.toml")]) == 2
    assert "is no TOML" in capsys.readouterr().err
    assert main([str(CONFIGS / "train_nano.toml"), "--images", str(tmp_path / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
