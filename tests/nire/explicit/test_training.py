"""Training key planes: what samples hold, what the loss says of witnesses, and that a few steps teach something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from nire.explicit.network import KeyPlaneNetwork
from nire.training.explicit import ExplicitSample, cut_at_key_times
from nire.training.loop import Materials, train
from nire.training.physics import between_planes
from nire.training.pictures import Bank
from nire.training.ranks import Ranks
from nire.training.samples import Samples
from nire.training.settings import TASKS, DataSettings, LossSettings, OptimiserSettings, RunSettings, Settings
from tests.nire.explicit.inputs import TINY

DATA = DataSettings(
    crop_px=32, batch=2, queries=2, steps_per_bin=6, layers=1, tiles=4, sprites=4, still_share=0.3, pattern_share=0.5,
    wide_sensors=True, noise="mixed", drop_share=0.5,
)  # fmt: skip
TAUGHT = [task for task in TASKS if task != "events_only"]


def samples(bank: Bank, data: DataSettings = DATA) -> Samples:
    return Samples(bank, data, cut=cut_at_key_times(TINY.bins, data.queries), seed=4)


@pytest.mark.parametrize("task", TAUGHT)
def test_samples_of_every_task_are_whole_and_finite(bank: Bank, task: str) -> None:
    sample = samples(bank).at(1, task)
    assert isinstance(sample, ExplicitSample)
    images = sample.expose(KeyPlaneNetwork(TINY))
    assert images.shape == sample.target.shape == (2, 2 + TINY.planes, 1, 32, 32)
    for values in (images, sample.target, *sample.inputs, sample.estimates()):
        assert torch.isfinite(values).all()


def test_planes_that_are_right_are_right_at_key_times_and_near_between(bank: Bank) -> None:
    sample = samples(bank, replace(DATA, noise="ideal", drop_share=0.0)).at(2, "sharp_vfi")
    assert isinstance(sample, ExplicitSample)
    right = sample.target[:, 2:, 0]
    images = sample.expose(lambda *_: right)
    torch.testing.assert_close(images[:, 2:, 0], right)
    error = (images[:, :2] - sample.target[:, :2]).square().mean()
    assert -10 * torch.log10(error) > 35


def test_light_between_planes_meets_both(bank: Bank) -> None:
    sample = samples(bank).at(3, "blurry_vfi")
    assert isinstance(sample, ExplicitSample)
    planes = sample.target[:, 2:, 0]
    light = between_planes(planes, sample.changes)
    torch.testing.assert_close(light[:, :: DATA.steps_per_bin], planes.square(), atol=1e-5, rtol=1e-4)


def test_only_what_is_worse_than_the_best_witness_costs(bank: Bank) -> None:
    sample = samples(bank, replace(DATA, drop_share=0.0)).at(4, "sharp_vfi")
    assert isinstance(sample, ExplicitSample)
    assert sample.worse(sample.target) == 0
    assert sample.worse((sample.target + 0.3).clamp(0, 1)) > 0.01


def test_a_few_steps_teach_something_and_go_on_where_they_stopped(bank: Bank, tmp_path: Path) -> None:
    settings = Settings(
        data=DATA,
        loss=LossSettings(witness=0.5),
        optimiser=OptimiserSettings(learning_rate=3e-3, warm_up=2, iterations=12),
        run=RunSettings(device="cpu", threads=1, validate_every=6, validation_windows=2),
    )

    def materials() -> Materials:
        torch.manual_seed(0)
        return Materials(
            KeyPlaneNetwork(TINY), cut_at_key_times(TINY.bins, DATA.queries), bank, bank, lambda network, done: None
        )

    alone = Ranks(0, 1, torch.device("cpu"))
    out = tmp_path / "out"
    half = replace(settings, optimiser=replace(settings.optimiser, iterations=6))
    train(half, materials(), out, ranks=alone, console=Console(quiet=True))
    done = train(settings, materials(), out, ranks=alone, console=Console(quiet=True), resume=True, changed=True)
    assert done == 12
    assert sorted(path.name for path in out.glob("validation_*.png"))
