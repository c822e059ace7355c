"""The network that remembers: what it starts as, what it keeps in mind, what it costs, and its engines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nire.engines import Job
from nire.engines.choice import check_engine
from nire.errors import ConfigError, WeightsError
from nire.network import weights
from nire.recurrent.config import NANO, RecurrentConfig
from nire.recurrent.engines import PhysicsRunner, Runner, open_runner
from nire.recurrent.network import FORGOTTEN, GRAY, RecurrentNetwork, carried
from tests.nire.recurrent.streams import PADDED, TINY, random_told, random_window, trained_a_little

CPU = torch.device("cpu")


def job(folder: Path, precision: str = "fp32") -> Job:
    return Job(*PADDED, (0,), CPU, precision, folder)


def test_untrained_network_is_events_that_are_slowly_forgotten() -> None:
    before, events = random_window(batch=2)
    with torch.no_grad():
        planes, *_ = RecurrentNetwork(TINY)(before, *events)
    torch.testing.assert_close(planes, carried(before, events.change) * (1 - FORGOTTEN) + GRAY * FORGOTTEN)


def test_engine_without_a_network_says_what_an_untrained_one_says(tmp_path: Path) -> None:
    before, seen = random_window()[0][0], random_told()
    untrained = open_runner("eager", RecurrentNetwork(TINY), job(tmp_path))
    torch.testing.assert_close(PhysicsRunner()(before, seen, ())[0], untrained(before, seen, ())[0])


def test_light_is_carried_by_the_events_until_the_end_of_each_bin() -> None:
    before = torch.full((1, 1, 1), 0.4)
    seen = carried(before, torch.tensor([0.3, -0.5]).view(1, 2, 1, 1))[0, :, 0, 0]
    dark = float(carried(torch.zeros(1, 1, 1), torch.full((1, 1, 1, 1), 1.0)).square())
    # exp(1) - 1 times the dark current, which gives it.
    dark /= torch.e - 1
    expected = ((0.16 + dark) * torch.tensor([0.3, -0.2]).exp() - dark).sqrt()
    torch.testing.assert_close(seen, expected)


def test_what_is_kept_in_mind_changes_what_is_said_next() -> None:
    network = trained_a_little()
    before, events = random_window()
    with torch.no_grad():
        first, *mind = network(before, *events)
        again, *_ = network(before, *events)
        after, *_ = network(before, *events, *mind)
        nothing, *_ = network(before, *events, *(torch.zeros_like(part) for part in mind))
    torch.testing.assert_close(first, again)
    torch.testing.assert_close(first, nothing)
    assert (after - first).abs().max() > 1e-3


def test_streams_of_a_batch_do_not_see_one_another() -> None:
    network = trained_a_little()
    before, events = random_window(batch=2)
    with torch.no_grad():
        both = network(before, *events)
        second = network(before[1:], *(values[1:] for values in events))
    for whole, own in zip(both, second, strict=True):
        torch.testing.assert_close(whole[1:], own, atol=1e-5, rtol=1e-4)


def test_window_of_a_davis346_costs_what_two_cores_can_do() -> None:
    height, width = NANO.padded(260, 346)
    with torch.device("meta"):
        network = RecurrentNetwork(NANO)
        maps = torch.zeros(1, NANO.bins, height, width)
        given = torch.zeros(1, height, width), maps, maps, torch.zeros(1, 3)
    with FlopCounterMode(display=False) as counter:
        network(*given)
    assert counter.get_total_flops() / 2e9 <= 2.5


def test_weights_are_read_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    network = trained_a_little()
    weights.save(network, path, {})
    read = weights.load_any(path)
    before, events = random_window()
    with torch.no_grad():
        torch.testing.assert_close(read(before, *events), network(before, *events))
    with pytest.raises(WeightsError, match="another kind"):
        weights.load(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": (4,), "blocks": (1,)}, "two strides"),
        ({"blocks": (1,)}, "expected 3"),
        ({"bins": 0}, "one at least"),
    ],
)
def test_network_that_cannot_be_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RecurrentConfig(**{"size": "x", "bins": 2, "channels": (4, 6, 8), "blocks": (1, 0, 1), **changes})  # type: ignore[arg-type]


def streamed(runner: Runner, windows: int = 4) -> list[torch.Tensor]:
    """Go through a few windows; what was given stays as it was."""
    before = random_window()[0][0]
    mind: tuple[torch.Tensor, ...] = ()
    seen = []
    for n in range(windows):
        roots, mind = runner(before, random_told(n), mind)
        before = roots[-1]
        seen.append(roots)
    return seen


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-4), ("bf16", 0.05)])
def test_openvino_gives_what_torch_gives_and_keeps_what_it_made(tmp_path: Path, precision: str, most: float) -> None:
    pytest.importorskip("openvino")
    right = streamed(open_runner("eager", trained_a_little(), job(tmp_path)))
    for _ in range(2):
        found = streamed(open_runner("openvino", trained_a_little(), job(tmp_path, precision)))
        for own, expected in zip(found, right, strict=True):
            assert (own - expected).abs().max() < most
    assert len(list((tmp_path / "openvino").rglob("*.blob"))) == 1


def test_engine_is_chosen_and_what_is_not_there_is_refused(tmp_path: Path) -> None:
    network = trained_a_little()
    assert open_runner("eager", network, job(tmp_path)).name == check_engine("eager", network, job(tmp_path))
    assert check_engine("auto", network, job(tmp_path, "fp16")) == "eager"
    with pytest.raises(ConfigError, match="auto, eager, openvino, physics"):
        open_runner("tensorrt", network, job(tmp_path))
    with pytest.raises(ConfigError, match="precision"):
        open_runner("openvino", network, job(tmp_path, "int8"))
