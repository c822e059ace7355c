"""Training runs: they learn, stop at any moment, go on as if they had not, and say what went wrong."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from nire.errors import ConfigError, TrainingStopped, WeightsError
from nire.explicit.network import KeyPlaneNetwork
from nire.network import weights as weight_files
from nire.training import checkpoint as checkpoints
from nire.training.explicit import cut_at_key_times
from nire.training.loop import CHECKPOINT, Materials, learning_rate, train
from nire.training.pictures import Bank
from nire.training.settings import OptimiserSettings, Settings
from tests.nire.explicit.inputs import TINY, random_inputs, trained_a_little
from tests.nire.network.tiny import network as tiny_network
from tests.nire.training import interrupted
from tests.nire.training.rooms import ALONE, materials, small_settings
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]


def run(
    settings: Settings, made: Materials, out: Path, *, resume: bool = False, changed: bool = False
) -> tuple[int, str]:
    text = io.StringIO()
    done = train(
        settings, made, out, ranks=ALONE, console=Console(file=text, width=200), resume=resume, changed=changed
    )
    return done, text.getvalue()


def state(out: Path) -> checkpoints.Checkpoint:
    return checkpoints.load(out / CHECKPOINT)


def test_loss_of_a_tiny_model_falls(bank: Bank, tmp_path: Path) -> None:
    settings = small_settings(data={"tasks": {"sharp_vfi": 1.0}})
    done, text = run(settings, materials(bank), tmp_path)
    history = state(tmp_path).history[:, 0].numpy()
    assert done == len(history) == 30
    assert history[-8:].mean() < 0.7 * history[:4].mean()
    assert "30 iterations done" in text


def test_same_seed_gives_the_same_run(bank: Bank, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(small_settings(optimiser={"iterations": 6}), materials(bank), tmp_path / name)
    assert torch.equal(state(tmp_path / "a").history, state(tmp_path / "b").history)


@pytest.mark.system
def test_run_that_was_stopped_and_resumed_equals_one_that_was_not(bank: Bank, tmp_path: Path) -> None:
    settings = small_settings(optimiser={"iterations": 12})
    run(settings, materials(bank), tmp_path / "whole")
    command = [sys.executable, "-X", "faulthandler", "-m", interrupted.__name__, str(tmp_path), "12"]
    stopped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert stopped.returncode == 0, f"ended by {stopped.returncode}: {stopped.stderr}"
    whole = state(tmp_path / "whole")
    for number in interrupted.NUMBERS:
        assert state(tmp_path / number.name).iteration == interrupted.AT
        # Another start, to show that all of it comes from the checkpoint.
        assert run(settings, materials(bank, seed=77), tmp_path / number.name, resume=True)[0] == 12
        halves = state(tmp_path / number.name)
        torch.testing.assert_close(halves.history, whole.history, rtol=1e-5, atol=1e-7)
        for group in ("network", "average", "optimiser"):
            expected = getattr(whole, group)
            assert expected.keys() == getattr(halves, group).keys()
            for name, value in expected.items():
                torch.testing.assert_close(getattr(halves, group)[name], value, rtol=1e-4, atol=1e-6)


def test_loss_that_is_not_finite_stops_and_names_the_batch(bank: Bank, tmp_path: Path) -> None:
    made = materials(bank)
    with torch.no_grad():
        made.network.layers[0].weight[0, 0, 0, 0] = math.nan
    with pytest.raises(TrainingStopped, match=r"in iteration 0, batch 0 of seed 41 \(rank 0, task deblur\)") as caught:
        run(small_settings(run={"seed": 41}, data={"tasks": {"deblur": 1.0}}), made, tmp_path)
    assert caught.value.exit_code == 1
    assert not (tmp_path / CHECKPOINT).exists()


def test_validation_leaves_pictures_weights_and_a_line(bank: Bank, tmp_path: Path) -> None:
    written: list[int] = []
    settings = small_settings(
        optimiser={"iterations": 4},
        run={"validate_every": 2, "report_every": 2},
        data={"tasks": {"deblur": 1.0, "events_only": 1.0}},
    )
    _, text = run(settings, materials(bank, written), tmp_path)
    assert written == [2, 4, 4]
    assert "iteration 2/4  loss" in text
    assert "validation at 2" in text
    for name in ("loss.png", "validation_deblur.png", "validation_events_only.png"):
        picture = cv2.imread(str(tmp_path / name))
        assert picture is not None
        assert np.ptp(picture) > 100
    assert not list(tmp_path.glob(".*"))


def test_average_lies_between_the_first_and_the_last_weights(bank: Bank, tmp_path: Path) -> None:
    made = materials(bank)
    first = {name: value.clone() for name, value in made.network.state_dict().items()}
    run(small_settings(optimiser={"iterations": 5}), made, tmp_path)
    done = state(tmp_path)
    moved = sum(float((done.network[name] - value).norm()) for name, value in first.items())
    lag = sum(float((done.network[name] - done.average[name]).norm()) for name in first)
    assert 0 < lag < moved


def test_rate_warms_up_and_ends_at_its_final_share() -> None:
    settings = OptimiserSettings(learning_rate=1.0, warm_up=10, iterations=100, final_share=0.1)
    rates = [learning_rate(k, settings) for k in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_fresh_run_does_not_overwrite_a_checkpoint(bank: Bank, tmp_path: Path) -> None:
    settings = small_settings(optimiser={"iterations": 1})
    run(settings, materials(bank), tmp_path)
    with pytest.raises(ConfigError, match="exists: go on with it by --resume"):
        run(settings, materials(bank), tmp_path)


def test_run_starts_with_the_weights_of_another_as_far_as_they_fit(bank: Bank, tmp_path: Path) -> None:
    trained = tmp_path / "trained.safetensors"
    weight_files.save(tiny_network(segments=2, bins=3), trained, {})
    other = tiny_network(segments=2, bins=3, content_levels=(1,), head_channels=12)
    first = {name: value.clone() for name, value in other.state_dict().items()}
    text, settings = io.StringIO(), small_settings(optimiser={"iterations": 1, "learning_rate": 1e-9})
    made = dataclasses.replace(materials(bank), network=other)
    train(settings, made, tmp_path / "out", ranks=ALONE, console=Console(file=text, width=200), start=trained)
    held, begun = weight_files.load(trained).state_dict(), state(tmp_path / "out").average
    assert "begins with" in text.getvalue()
    for name, value in begun.items():
        fits = name in held and held[name].shape == value.shape
        torch.testing.assert_close(value, held[name] if fits else first[name], atol=1e-6, rtol=0)
    assert any(name in held and held[name].shape != first[name].shape for name in first)


def test_run_starts_with_what_a_smaller_network_has_learned(bank: Bank, tmp_path: Path) -> None:
    trained = tmp_path / "tiny.safetensors"
    weight_files.save(trained_a_little(), trained, {})
    wider = dataclasses.replace(TINY, size="wider", channels=(16, 24, 24), head=16)
    text, settings = io.StringIO(), small_settings(optimiser={"iterations": 1, "learning_rate": 1e-9})
    made = dataclasses.replace(materials(bank), network=KeyPlaneNetwork(wider), cut=cut_at_key_times(TINY.bins, 2))
    train(settings, made, tmp_path / "out", ranks=ALONE, console=Console(file=text, width=200), start=trained)
    network = KeyPlaneNetwork(wider)
    network.load_state_dict(state(tmp_path / "out").average)
    with torch.no_grad():
        given = random_inputs(TINY)
        torch.testing.assert_close(network(*given), trained_a_little()(*given), atol=1e-4, rtol=1e-4)
    assert "of size tiny, grown" in text.getvalue()


def test_weights_of_which_nothing_fits_are_refused(bank: Bank, tmp_path: Path) -> None:
    trained = tmp_path / "trained.safetensors"
    weight_files.save(tiny_network(), trained, {})
    with pytest.raises(WeightsError, match=r"nothing in .* fits this network"):
        train(
            small_settings(), materials(bank), tmp_path / "out", ranks=ALONE, console=Console(quiet=True), start=trained
        )


def test_resume_with_other_settings_is_refused_by_name(bank: Bank, tmp_path: Path) -> None:
    run(small_settings(optimiser={"iterations": 1}), materials(bank), tmp_path)
    with pytest.raises(ConfigError, match=r"other settings \(data, optimiser\)"):
        run(small_settings(data={"queries": 3}), materials(bank), tmp_path, resume=True)


def test_resume_of_another_network_is_refused_by_name_and_changes_nothing(bank: Bank, tmp_path: Path) -> None:
    run(small_settings(optimiser={"iterations": 2}), materials(bank), tmp_path)
    path = tmp_path / CHECKPOINT
    held = state(tmp_path)
    first = held.network["layers.0.weight"]
    older = {name: value for name, value in held.network.items() if name != "layers.2.bias"}
    cases = {
        r"1 tensor\(s\) differ, first layers\.2\.bias: found None, expected \(1,\)": older,
        r"2 tensor\(s\) differ, first gone: found \(3,\), expected None": older | {"gone": torch.zeros(3)},
        r"1 tensor\(s\) differ, first layers\.0\.weight: found \(8, 6, 3, 3\), expected \(8, 7, 3, 3\)": held.network
        | {"layers.0.weight": first[:, :6]},
    }
    for message, network in cases.items():
        checkpoints.save(dataclasses.replace(held, network=network), path)
        before, made = path.read_bytes(), materials(bank, seed=77)
        mine = {name: value.clone() for name, value in made.network.state_dict().items()}
        with pytest.raises(WeightsError, match=rf"{CHECKPOINT} holds another network .* {message}\. .* another --out"):
            run(small_settings(optimiser={"iterations": 2}), made, tmp_path, resume=True)
        assert all(torch.equal(value, mine[name]) for name, value in made.network.state_dict().items())
        assert path.read_bytes() == before


def test_leftovers_of_the_dead_go_at_a_start_and_at_a_resume(bank: Bank, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    dead = [tmp_path / f".{name}.{ended.pid}.part" for name in (CHECKPOINT, "nano.safetensors", "loss.png")]
    again = tmp_path / f".{CHECKPOINT}.{os.getpid()}.part"
    kept = [tmp_path / f".{CHECKPOINT}.{os.getppid()}.part", tmp_path / ".notes.part", tmp_path / ".my.notes.part"]
    settings = small_settings(optimiser={"iterations": 1})
    for resume in (False, True):
        for path in (*dead, again, *kept):
            path.write_bytes(b"half a")
        run(settings, materials(bank), tmp_path, resume=resume)
        assert set(tmp_path.glob(".*")) == set(kept)


def test_resume_without_a_checkpoint_is_refused(bank: Bank, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no checkpoint at"):
        run(small_settings(), materials(bank), tmp_path, resume=True)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_checkpoint_is_refused(bank: Bank, tmp_path: Path, share: float) -> None:
    run(small_settings(optimiser={"iterations": 1}), materials(bank), tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match="no whole checkpoint"):
        checkpoints.load(path)


def test_failure_while_writing_leaves_the_old_checkpoint(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small_settings(optimiser={"iterations": 2}), materials(bank), tmp_path)

    def fail(path: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "_flush", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(dataclasses.replace(state(tmp_path), iteration=99), tmp_path / CHECKPOINT)
    assert state(tmp_path).iteration == 2
    assert not list(tmp_path.glob(".*"))


def test_resume_with_other_data_goes_on_where_that_is_allowed(bank: Bank, tmp_path: Path) -> None:
    run(small_settings(optimiser={"iterations": 1}), materials(bank), tmp_path)
    changed = small_settings(optimiser={"iterations": 3}, data={"noise": "mixed"})
    done, text = run(changed, materials(bank), tmp_path, resume=True, changed=True)
    assert done == 3
    assert "goes on with [data] set otherwise" in text
    other = small_settings(model={"size": "small"}, optimiser={"iterations": 3})
    with pytest.raises(ConfigError, match="other settings"):
        run(other, materials(bank), tmp_path, resume=True, changed=True)
