"""What the shipped weights must be good for, on scenes rendered from pictures they never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nire.metrics import psnr
from nire.network import weights
from nire.training import evaluate
from nire.training.methods import Method, as_pixels, edi
from nire.training.pictures import find_images, make_bank
from nire.training.protocols import Case
from nire.training.recurrent import cut_into_windows
from nire.training.samples import Samples, believed_thresholds, see
from nire.training.scenes import Scenes, render
from nire.training.sensor import draw_sensors
from nire.training.settings import DataSettings
from nire.training.tasks import Shutters
from tests.nire.training.rooms import write_images

CROP, STEPS, WINDOWS = 64, 96, 6
SHIPPED = list(weights.all_shipped())
LEAD_DB = {"paper_nano": 0.3, "nano": 0.3, "small": 0.3}
"""What each gains at least."""


@pytest.fixture(scope="module", params=SHIPPED)
def network(request: pytest.FixtureRequest) -> Method:
    """Load shipped weights: what they answer."""
    return evaluate.method_of(weights.load_any(weights.all_shipped()[request.param]), torch.device("cpu"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    """Render moving pictures."""
    folder = write_images(tmp_path_factory.mktemp("pictures"), size=(160, 140))
    bank = make_bank(find_images(folder), crop_px=CROP, tiles=WINDOWS, sprites=WINDOWS, seed=1)
    return render(bank, np.random.default_rng(2), batch=WINDOWS, crop_px=CROP, steps=STEPS, layers=2)


def case(scenes: Scenes, frames: list[tuple[float, float]], asked: list[tuple[float, float]]) -> Case:
    """Let realistic sensors see the scenes, with global shutters."""

    def rows(shutters: list[tuple[float, float]]) -> np.ndarray:
        each = np.array(shutters, np.float32)[None, :, None]
        return np.ascontiguousarray(np.broadcast_to(each, (WINDOWS, len(shutters), CROP, 2)))

    rng = np.random.default_rng(3)
    sensors = draw_sensors(rng, WINDOWS, "realistic")
    positive, negative = believed_thresholds(sensors, 0.12, rng)
    window = see(
        scenes,
        Shutters(rows(frames), rows(asked)),
        sensors,
        observed=np.ones((WINDOWS, 1), np.float32),
        generator=torch.Generator().manual_seed(4),
    )
    return Case("any", window, positive, negative)


def exposed(method: Method, asked: Case) -> np.ndarray:
    """Pixels in sRGB as float64 [b, Q, H, W]."""
    return as_pixels(method(asked)).astype(np.float64)


@pytest.mark.parametrize(
    ("frames", "asked"),
    [
        ([(0.1, 0.9)], [(0.1, 0.1), (0.5, 0.5), (0.9, 0.9)]),
        ([(0.0, 0.3), (0.7, 1.0)], [(0.15, 0.15), (0.4, 0.4), (0.5, 0.5)]),
        ([(0.2, 0.4)], [(0.7, 0.7), (1.0, 1.0)]),
    ],
    ids=["deblur", "between", "live edge"],
)
def test_ahead_of_the_double_integral_that_is_told_the_same(
    network: Method,
    scenes: Scenes,
    frames: list[tuple[float, float]],
    asked: list[tuple[float, float]],
    request: pytest.FixtureRequest,
) -> None:
    made = case(scenes, frames, asked)
    truth = as_pixels(made.window.target)
    scores = [
        np.mean([psnr(image, right) for image, right in zip(as_pixels(method(made)), truth, strict=True)])
        for method in (network, edi)
    ]
    name = request.node.callspec.params["network"]
    assert scores[0] > scores[1] + LEAD_DB[name]


def test_two_halves_of_an_exposure_average_to_the_whole(network: Method, scenes: Scenes) -> None:
    made = case(scenes, [(0.0, 0.1), (0.9, 1.0)], [(0.3, 0.7), (0.3, 0.5), (0.5, 0.7)])
    whole, first, second = network(made).unbind(1)
    apart = (as_pixels((first + second) / 2).astype(np.float64) - as_pixels(whole)).reshape(-1)
    assert np.abs(apart).mean() < 1


def test_longer_shutter_blurs_more(network: Method, scenes: Scenes) -> None:
    made = case(scenes, [(0.0, 0.02), (0.98, 1.0)], [(0.5 - w / 2, 0.5 + w / 2) for w in (0.0, 0.2, 0.5, 0.9)])
    images = exposed(network, made)
    slopes = np.abs(np.diff(images, axis=-1)).mean((0, 2, 3))
    assert (np.diff(slopes) < 0).all()


def test_network_for_events_alone_is_ahead_of_events_that_are_carried_on(tmp_path: Path) -> None:
    """After the gain and the offset that bring each image nearest to the truth: events tell neither."""
    path = weights.shipped("nano_events_only")
    assert path is not None
    network = weights.load_any(path)
    bank = make_bank(find_images(write_images(tmp_path, size=(160, 140))), crop_px=CROP, tiles=12, sprites=12, seed=1)
    data = DataSettings(
        crop_px=CROP, batch=4, steps_per_bin=6, noise="realistic", wide_sensors=True, tasks={"events_only": 1.0}
    )
    samples = Samples(bank, data, cut=cut_into_windows(network.config.bins, 10), seed=11)
    left = {"network": [0.0], "physics": [0.0]}
    for index in range(0, 12, 2):
        sample = samples.at(index)
        with torch.no_grad():
            images = {"network": sample.expose(network), "physics": sample.estimates()}
        for name, image in images.items():
            left[name].append(_left_after_fit(image, sample.target))
    assert sum(left["network"]) < 0.85 * sum(left["physics"])


def _left_after_fit(image: torch.Tensor, right: torch.Tensor) -> float:
    """Mean variance that is left of what is right when an image explains it by its best gain and offset."""
    apart, wanted = (value - value.mean((2, 3, 4), keepdim=True) for value in (image.float(), right))
    both, own = ((apart * other).mean((2, 3, 4), keepdim=True) for other in (wanted, apart))
    return float((wanted - (both / (own + 1e-9)).clamp_min(0) * apart).square().mean())
