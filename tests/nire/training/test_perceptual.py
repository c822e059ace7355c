"""The perceptual loss, with random weights in torchvision's layout."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from nire.errors import ConfigError, WeightsError
from nire.light import encode_table
from nire.training.__main__ import main
from nire.training.losses import loss
from nire.training.perceptual import perceptual
from nire.training.settings import LossSettings, parse_settings

SHAPES = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (8, 128)}


def vgg(**changed: Tensor) -> dict[str, Tensor]:
    """Random weights of the first layers and one more, as torchvision names them; `changed` by "features.N"."""
    generator = torch.Generator().manual_seed(0)
    held: dict[str, Tensor] = {"classifier.0.bias": torch.zeros(3)}
    for number, (out, into) in SHAPES.items():
        held[f"features.{number}.weight"] = torch.randn(out, into, 3, 3, generator=generator) * (2 / 9 / into) ** 0.5
        held[f"features.{number}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return held | changed


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(vgg(), tmp_path / "vgg.pth")
    return tmp_path / "vgg.pth"


def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(2, 1, 12, 14, generator=generator)
    return (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


def test_loss_is_that_of_johnson_at_relu2_2(weights: Path) -> None:
    held = vgg()

    def features(roots: Tensor) -> Tensor:
        table = torch.from_numpy(encode_table("srgb")).float() / 255
        srgb = table[(roots.square() * (len(table) - 1)).round().long()]
        mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
        maps = (srgb.repeat(1, 3, 1, 1) - mean) / deviation
        for number in (0, 2, 5, 7):
            maps = functional.max_pool2d(maps, 2) if number == 5 else maps
            kernel, bias = held[f"features.{number}.weight"], held[f"features.{number}.bias"]
            maps = functional.conv2d(maps, kernel, bias, padding=1).relu()
        return maps

    image, target = pair()
    expected = (features(image) - features(target)).square().sum() / (2 * 128 * 6 * 7)
    torch.testing.assert_close(perceptual(image, target, weights), expected, rtol=0.02, atol=0)


def test_right_image_has_no_loss_and_only_the_image_has_a_gradient(weights: Path) -> None:
    image, target = (a.clamp(min=0.05).requires_grad_() for a in pair())
    assert perceptual(target, target, weights) == 0
    dark = torch.cat([torch.full((1, 1, 12, 14), -0.1), torch.zeros(1, 1, 12, 14)])
    value = perceptual(torch.cat([image, dark]), torch.cat([target, target]), weights)
    value.backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().min() > 0
    assert target.grad is None


def test_term_enters_the_loss_with_its_weight(weights: Path) -> None:
    image, target = (a.unflatten(0, (1, 2)) for a in pair())
    plain = LossSettings()
    more = LossSettings(perceptual=0.5, perceptual_weights=str(weights))
    gained = loss(image, target, more) - loss(image, target, plain)
    torch.testing.assert_close(gained, 0.5 * perceptual(image[0], target[0], weights))


def test_both_kinds_of_file_and_half_precision_serve(weights: Path, tmp_path: Path) -> None:
    save_file(vgg(), tmp_path / "vgg.safetensors")
    torch.save({name: value.half() for name, value in vgg().items()}, tmp_path / "half.pth")
    expected = perceptual(*pair(), weights)
    torch.testing.assert_close(perceptual(*pair(), tmp_path / "vgg.safetensors"), expected, rtol=0, atol=0)
    torch.testing.assert_close(perceptual(*pair(), tmp_path / "half.pth"), expected, rtol=0.01, atol=0)


def test_weights_are_read_once(weights: Path) -> None:
    first = perceptual(*pair(), weights)
    weights.unlink()
    assert perceptual(*pair(), weights) == first


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 1000, -10])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"vgg{suffix}"
    save_file(vgg(), path) if suffix == ".safetensors" else torch.save(vgg(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"vgg\S+ \([\d,]+ bytes\) cannot be read as weights .* copy it again"):
        perceptual(*pair(), path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_foreign_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"vgg{suffix}"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        perceptual(*pair(), path)


def test_file_that_holds_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "harm",))

    path = tmp_path / "vgg.pth"
    path.write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        perceptual(*pair(), path)
    assert not (tmp_path / "harm").exists()


def test_other_networks_are_refused_with_what_fits(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    without = {name: value for name, value in vgg().items() if name != "features.2.weight"}
    for number, held in enumerate(
        (without, vgg(**{"features.5.weight": torch.zeros(64, 64, 3, 3)}), {"conv1.weight": torch.zeros(1)}, [1, 2])
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(held, path)
        with pytest.raises(WeightsError, match=r"features\.\d\.weight is .*, expected .* takes torchvision's vgg13"):
            perceptual(*pair(), path)


def test_missing_weights_are_asked_for_before_anything_is_rendered(tmp_path: Path) -> None:
    for table in ({"perceptual": 0.1}, {"perceptual": 0.1, "perceptual_weights": str(tmp_path / "none.pth")}):
        with pytest.raises(ConfigError, match=r"loss\.perceptual = 0\.1 needs VGG's weights"):
            parse_settings({"loss": table})
    with pytest.raises(ConfigError, match="expected at least 0"):
        parse_settings({"loss": {"perceptual": -1}})
    with pytest.raises(WeightsError, match="there are no VGG weights at"):
        perceptual(*pair(), tmp_path / "none.pth")


def test_damaged_weights_are_refused_before_pictures_are_read(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights.write_bytes(weights.read_bytes()[:-10])
    config = tmp_path / "run.toml"
    config.write_text(f'[loss]\nperceptual = 0.1\nperceptual_weights = "{weights}"\n[run]\ndevice = "cpu"\n')
    # A folder without images is refused as soon as pictures are looked for.
    assert main([str(config), "--images", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert f"{weights} (" in (told := capsys.readouterr().err)
    assert "cannot be read as weights" in told
    assert not (tmp_path / "out").exists()
