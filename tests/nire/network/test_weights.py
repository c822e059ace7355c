"""Weights survive a round trip; what does not fit is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nire.errors import WeightsError
from nire.network import weights
from tests.nire.network.tiny import TINY, build_inputs, expose_inputs, network


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    weights.save(network(), path, {"trained": "never"})
    return path


def test_round_trip_gives_the_same_images_config_and_notes(saved: Path) -> None:
    loaded = weights.load(saved)
    assert loaded.config == TINY
    assert weights.metadata(saved)["trained"] == "never"
    inputs, asked = build_inputs(2), expose_inputs(2, 2)
    with torch.no_grad():
        torch.testing.assert_close(loaded(*inputs, *asked), network()(*inputs, *asked), atol=0, rtol=0)


def test_saving_leaves_no_unfinished_file(saved: Path) -> None:
    weights.save(network(), saved, {})
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_failed_saving_keeps_the_old_weights(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fail(tensors: object, path: Path, described: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.save(network(), saved, {})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("keep", [0, 5, 100, -10])
def test_truncated_file_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="truncated"):
        weights.load(saved)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights at"):
        weights.load(tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(WeightsError, match="another kind"):
        weights.load(foreign)
    save_file({"x": torch.zeros(1)}, foreign)
    with pytest.raises(WeightsError, match="format None"):
        weights.load(foreign)


def test_wrong_config_is_refused_by_field(saved: Path) -> None:
    with pytest.raises(WeightsError, match=r"channels is \(8, 16\), expected \(16, 16\)"):
        weights.load(saved, replace(TINY, channels=(16, 16)))


def test_weights_serve_both_kinds_of_attention(saved: Path) -> None:
    assert weights.load(saved, replace(TINY, attention="joint")).config.attention == "joint"


def test_other_tensors_than_the_config_says_are_refused(saved: Path) -> None:
    made = network()
    made.head.belief = None
    weights.save(made, saved, {})
    with pytest.raises(WeightsError, match=r"head\.belief"):
        weights.load(saved)


def test_config_of_another_version_is_refused(saved: Path) -> None:
    save_file({"x": torch.zeros(1)}, saved, {"format": weights.FORMAT, "config": '{"size": "tiny", "new": 1}'})
    with pytest.raises(WeightsError, match="another version"):
        weights.load(saved)


def test_size_without_shipped_weights_has_none() -> None:
    assert weights.shipped("no-such-size") is None
