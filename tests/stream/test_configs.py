"""Every config that is shipped for a camera is good, and its driver takes its settings."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from drivers import detect
from drivers.detect import driver_names
from nire.errors import ConfigError
from stream.cli import main
from stream.config import load_config
from stream.sources import check_settings
from tests.stream.command import FREE_PORTS

CONFIGS = Path(__file__).parents[2] / "configs"
STREAMS = sorted(path for path in CONFIGS.glob("*.toml") if not path.name.startswith("train"))


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_config_passes_the_check_and_nothing_is_opened(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "missing_sdk", lambda *_, **__: "")
    with pytest.raises(SystemExit) as ended:
        main(["check", str(path), *FREE_PORTS])
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    assert "config is good" in shown.out


def test_every_live_driver_has_a_config() -> None:
    used = {tomllib.loads(path.read_text(encoding="utf-8"))["source"]["driver"] for path in STREAMS}
    assert {"davis346", "neuromorphic", "metavision", "dv_network", "synthetic"} <= used <= {*driver_names(), "auto"}


@pytest.mark.parametrize(
    ("driver", "setting", "message"),
    [
        ("davis346", "exposure_us = 0", "expected 1 to"),
        ("davis346", "exposure = 5", "did you mean 'exposure_us'"),
        ("neuromorphic", "device = 'evk5'", "one of 'auto', 'davis346'"),
        ("metavision", "roi = [1]", "expected \\[x, y"),
        ("dv_network", "events = 'nowhere'", "tcp://host:port"),
    ],
)
def test_settings_of_a_driver_are_checked_before_anything_starts(driver: str, setting: str, message: str) -> None:
    config = load_config(None, [f"source.driver={driver}", f"source.settings={{{setting}}}"])
    with pytest.raises(ConfigError, match=message):
        check_settings(config.source)


def test_recording_that_is_still_to_be_named_is_no_error() -> None:
    check_settings(load_config(None, ["source.driver=aedat4"]).source)
    check_settings(load_config(None).source)
