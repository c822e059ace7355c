"""Methods made of methods."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nire.training.methods import cascade, edi_true_threshold, neural, passthrough
from nire.training.protocols import Case, cases
from tests.nire.network.tiny import network as tiny_network
from tests.nire.training.rooms import write_images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """A window of every rendered task."""
    images = write_images(tmp_path_factory.mktemp("images"), count=12, size=(120, 120))
    return {case.task: case for case in cases("rendered", images, noise="ideal", windows=1)}


def test_cascade_deblurs_each_frame_alone_and_asks_the_results(made: dict[str, Case]) -> None:
    case, asked = made["blurry_vfi"], []

    def method(given: Case) -> Tensor:
        asked.append(given)
        return torch.full(given.window.shutters.shape[:3], 0.1 * len(asked))[..., None].expand(-1, -1, -1, 96)

    found = cascade(method)(case)
    assert found.shape == case.window.target.shape
    windows = [given.window for given in asked]
    assert len(windows) == 3
    for n, window in enumerate(windows[:2]):
        assert torch.equal(window.frames, case.window.frames[:, n : n + 1])
        assert torch.equal(window.frame_shutters, case.window.frame_shutters[:, n : n + 1])
        assert window.target.shape == (1, 1, 96, 96)
        torch.testing.assert_close(window.shutters, torch.full((1, 1, 96, 2), (0.175, 0.825)[n]))
    torch.testing.assert_close(windows[2].frames[:, :, 0, 0], torch.tensor([[0.1, 0.2]]))
    assert torch.equal(windows[2].frame_shutters[:, 1], windows[1].shutters[:, 0])
    assert torch.equal(windows[2].shutters, case.window.shutters)
    assert all(window.counts is case.window.counts for window in windows)


def test_cascade_of_rolling_frames_asks_one_instant_of_all_rows(made: dict[str, Case]) -> None:
    case, asked = made["unroll_deblur"], []

    def method(given: Case) -> Tensor:
        asked.append(given.window)
        return passthrough(given)

    cascade(method)(case)
    torch.testing.assert_close(asked[0].shutters, torch.full((1, 1, 96, 2), 0.5))


def test_cascade_is_ahead_of_the_captured_frame_with_an_ideal_sensor(made: dict[str, Case]) -> None:
    case = made["blurry_vfi"]
    errors = [
        (method(case).clamp(max=1) - case.window.target).square().mean()
        for method in (cascade(edi_true_threshold), passthrough)
    ]
    assert errors[0] < errors[1]


def test_cascade_of_a_network_answers_every_task(made: dict[str, Case]) -> None:
    method = cascade(neural(tiny_network(), torch.device("cpu")))
    for case in made.values():
        found = method(case)
        assert found.shape == case.window.target.shape
        assert torch.isfinite(found).all()
