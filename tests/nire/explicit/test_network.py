"""The network of the explicit content: what it starts as, what it never hears, what it costs, and its engines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from nire.engines import Job
from nire.errors import ConfigError, WeightsError
from nire.explicit.config import NANO, SMALL, ExplicitConfig
from nire.explicit.details import SIZES_CALMED, calmed
from nire.explicit.engines import Cleaner, open_cleaner
from nire.explicit.limits import limits
from nire.explicit.network import CUT, LEAST_LIGHT, KeyPlaneNetwork, prior
from nire.network import weights
from nire.network.config import named
from tests.nire.explicit.inputs import TINY, random_evidence, random_inputs, trained_a_little

CPU = torch.device("cpu")


def job(tmp_path: Path, precision: str = "fp32") -> Job:
    return Job(16, 24, (), CPU, precision, tmp_path / "cache")


def test_untrained_network_blends_the_witnesses_by_their_trust() -> None:
    given = random_inputs(TINY, batch=2)
    with torch.no_grad():
        planes = KeyPlaneNetwork(TINY)(*given)
    light = (prior(given).softmax(2) * given.witnesses.square()).sum(2)
    b, count, height, width = light.shape
    little = torch.full((b, count, SIZES_CALMED, height // 2, width // 2), -4.0).sigmoid()
    allowed = limits(given.number, given.frames, given.exposures, given.observed, given.told)[:, None, 1:]
    torch.testing.assert_close(planes, calmed(light, little * allowed).clamp_min(LEAST_LIGHT).sqrt())
    assert (planes.square() - light).abs().max() < 0.02


def test_calming_takes_noise_and_leaves_what_is_flat_or_of_no_detail() -> None:
    noise = torch.randn((1, 1, 64, 64), generator=torch.Generator().manual_seed(1)) * 0.1
    all_of_it, nothing = (torch.full((1, 1, SIZES_CALMED, 32, 32), amount) for amount in (1.0, 0.0))
    assert calmed(noise, all_of_it).std() < 0.15 * noise.std()
    torch.testing.assert_close(calmed(noise, nothing), noise)
    ramp = (torch.arange(64.0) / 64).expand(1, 1, 64, 64)
    torch.testing.assert_close(calmed(ramp, all_of_it)[..., 8:-8], ramp[..., 8:-8])
    # The finest details alone: what four pixels share stays.
    fine = torch.cat([all_of_it[:, :, :1], nothing[:, :, 1:]], 2)
    broad = noise[..., ::8, ::8].repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert (calmed(broad, fine) - broad).std() < 0.4 * broad.std()


def test_witness_that_is_cut_off_changes_nothing_of_the_blend() -> None:
    given = random_inputs(TINY)
    given.trust[:, 1, 0] = CUT - 0.1
    network = KeyPlaneNetwork(TINY)
    with torch.no_grad():
        planes = network(*given)
        given.witnesses[:, 1, 0] = 0
        again = network(*given)
    torch.testing.assert_close(planes, again, atol=1e-5, rtol=0)


def test_windows_of_a_batch_do_not_see_one_another() -> None:
    given, network = random_inputs(TINY, batch=2), trained_a_little()
    with torch.no_grad():
        both = network(*given)
        second = network(*(values[1:] for values in given))
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("config", "most_gmac"), [(NANO, 2.0), (SMALL, 8.0)], ids=["nano", "small"])
def test_build_of_a_davis346_stays_within_its_budget(config: ExplicitConfig, most_gmac: float) -> None:
    height, width = config.padded(260, 346)
    with torch.device("meta"):
        network, given = KeyPlaneNetwork(config), random_inputs_of_meta(config, height, width)
    with FlopCounterMode(display=False) as counter:
        network(*given)
    assert counter.get_total_flops() / 2e9 <= most_gmac


def random_inputs_of_meta(config: ExplicitConfig, height: int, width: int) -> list[torch.Tensor]:
    return [value.to("meta") for value in random_inputs(config, height=height, width=width)]


def test_weights_are_read_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    network = trained_a_little()
    weights.save(network, path, {})
    read = weights.load_any(path)
    given = random_inputs(TINY)
    with torch.no_grad():
        torch.testing.assert_close(read(*given), network(*given))
    with pytest.raises(WeightsError, match="another kind"):
        weights.load(path)
    with pytest.raises(WeightsError, match="another kind"):
        weights.load_any(path, named("nano"))


def opened(name: str, tmp_path: Path, precision: str = "fp32") -> Cleaner:
    return open_cleaner(name, trained_a_little(), job(tmp_path, precision))


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-4), ("bf16", 0.05)])
def test_openvino_gives_what_torch_gives_and_keeps_what_it_made(tmp_path: Path, precision: str, most: float) -> None:
    pytest.importorskip("openvino")
    given = random_evidence(TINY)
    right = opened("eager", tmp_path)(given)
    for _ in range(2):
        error = (opened("openvino", tmp_path, precision)(given) - right).abs()
        assert error.max() < most
    assert list((tmp_path / "cache").rglob("planes.blob"))


def test_what_was_kept_and_is_broken_is_made_anew(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    opened("openvino", tmp_path)
    (kept,) = (tmp_path / "cache").rglob("planes.blob")
    kept.write_bytes(b"nothing")
    given = random_evidence(TINY)
    torch.testing.assert_close(
        opened("openvino", tmp_path)(given), opened("eager", tmp_path)(given), atol=1e-4, rtol=1e-3
    )


def test_engine_or_precision_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="auto, eager, openvino"):
        opened("cudagraph", tmp_path)
    with pytest.raises(ConfigError, match="precision"):
        opened("eager", tmp_path, "int8")


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """Weights, and a change of them."""
    network = trained_a_little()
    weights.save(network, tmp_path / "base.safetensors", {})
    with torch.no_grad():
        network.layers.enter.bias.add_(0.5)
    weights.save_change(network, tmp_path / "base.safetensors", tmp_path / "change.safetensors", {"recording": "mine"})
    return tmp_path / "change.safetensors"


def test_change_holds_what_differs_and_is_read_with_what_it_is_of(changed: Path) -> None:
    assert set(load_file(changed)) == {"layers.enter.bias"}
    given, expected = random_inputs(TINY), trained_a_little()
    with torch.no_grad():
        expected.layers.enter.bias.add_(0.5)
        torch.testing.assert_close(weights.load_any(changed)(*given), expected(*given))
    assert weights.metadata(changed)["recording"] == "mine"
    assert weights.outline(changed).config == TINY


def test_change_and_its_weights_can_be_moved_together(changed: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for name in ("base.safetensors", "change.safetensors"):
        (tmp_path / name).rename(there / name)
    assert weights.load_any(there / "change.safetensors").config == TINY


def test_change_of_other_weights_is_refused(changed: Path) -> None:
    base = changed.with_name("base.safetensors")
    weights.save(KeyPlaneNetwork(TINY), base, {})
    with pytest.raises(WeightsError, match=r"changes the weights .*base\.safetensors, and .* holds others"):
        weights.load_any(changed)
    base.unlink()
    with pytest.raises(WeightsError, match=r"there is no base\.safetensors there"):
        weights.outline(changed)
