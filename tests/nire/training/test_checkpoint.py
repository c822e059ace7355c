"""Files that are taken for a checkpoint, or a checkpoint that is taken for weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nire.errors import WeightsError
from nire.network import weights
from nire.training import checkpoint as checkpoints
from nire.training.evaluate import main as evaluate
from tests.nire.network.tiny import network as tiny_network


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of a run that was never begun."""
    path = tmp_path / "checkpoint.safetensors"
    one = {"a": torch.zeros(2)}
    state = checkpoints.Checkpoint(one, one, {}, {"cpu": torch.get_rng_state()}, 0, torch.zeros(0, 2), {"run": {}})
    checkpoints.save(state, path)
    return path


def test_checkpoint_is_no_weights_and_weights_are_no_checkpoint(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"format 'nire-checkpoint-1'; expected one of nire-network-\d+, .* which .* write"
    ):
        weights.load(saved)
    path = tmp_path / "tiny.safetensors"
    weights.save(tiny_network(), path, {})
    with pytest.raises(WeightsError, match=r"format 'nire-network-\d+', expected 'nire-checkpoint-1'; it is no checkp"):
        checkpoints.load(path)


def test_foreign_file_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(WeightsError, match="is no whole checkpoint"):
        checkpoints.load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="has format None, expected 'nire-checkpoint-1'"):
        checkpoints.load(path)


def test_evaluation_says_which_weights_it_cannot_read(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(saved.read_bytes()[:-10])
    for path, reason in ((saved, "format 'nire-checkpoint-1'"), (cut, "truncated"), (tmp_path / "none", "no weights")):
        assert evaluate(["rendered", str(tmp_path), "--weights", str(path)]) == 2
        told = capsys.readouterr().err
        assert reason in told
        assert str(path) in told
