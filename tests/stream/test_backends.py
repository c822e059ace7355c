"""From the configuration to a backend: its own settings reach it, and a name that it does not have is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nire.errors import ConfigError
from nire.integral import event_loops
from stream.backends import open_reconstructor, warm_up
from stream.config import load_config
from tests.stream import packets

BACKEND = """
from nire.backends.passthrough import Passthrough

class Mine(Passthrough):
    pass

def create(geometry, device, *, strength=1.0, threads=0):
    made = Mine()
    made.strength = strength
    return made
"""


@pytest.fixture(autouse=True)
def _mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "ourlab").mkdir()
    (tmp_path / "ourlab" / "mine.py").write_text(BACKEND, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "ourlab"]:
        del sys.modules[name]


def test_settings_of_a_backend_reach_it() -> None:
    config = load_config(None, ["reconstructor.backend=ourlab.mine", "reconstructor.settings.strength=0.5"])
    assert open_reconstructor(config, packets.GEOMETRY).strength == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("backend", "setting", "expected"),
    [
        ("ourlab.mine", "strenght=2", "did you mean 'strength'"),
        ("ourlab.mine", "geometry=2", "there are strength"),
        ("ourlab.mine", "threads=2", "reconstructor.threads"),
        ("edi", "strength=2", "none of its own"),
    ],
)
def test_setting_that_a_backend_does_not_have_is_refused(backend: str, setting: str, expected: str) -> None:
    config = load_config(None, [f"reconstructor.backend={backend}", f"reconstructor.settings.{setting}"])
    with pytest.raises(ConfigError, match=expected):
        open_reconstructor(config, packets.GEOMETRY)


@pytest.mark.parametrize("backend", ["edi", "neural"])
def test_warming_up_calls_the_loop_that_ignores_hot_pixels(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled when the first hot pixels were found, it held up the first seconds of a new installation's stream."""
    calls = []
    monkeypatch.setattr(event_loops, "ignore", lambda *arguments: calls.append(arguments))
    reconstructor = open_reconstructor(load_config(None, [f"reconstructor.backend={backend}"]), packets.GEOMETRY)
    warm_up(reconstructor, packets.GEOMETRY)
    assert calls
