"""The terms of the loss."""

from __future__ import annotations

import pytest
import torch

from nire.metrics import psnr
from nire.training.losses import charbonnier, gradient, loss, missing_psnr, psnr_of, ssim
from nire.training.settings import LossSettings


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 1, 16, 16, generator=generator)
    return target, (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(
    "settings",
    [LossSettings(), LossSettings(0.0, 1.0, 0.0), LossSettings(1.0, 0.5, 0.3), LossSettings(0.0, 0.0, 0.0, 0.01)],
)
def test_right_image_has_the_least_loss_and_every_term_has_a_gradient(settings: LossSettings) -> None:
    target, image = pair()
    image.requires_grad_()
    value = loss(image, target, settings)
    assert value > loss(target, target, settings) + 1e-3
    value.backward()
    assert torch.isfinite(image.grad).all()
    assert image.grad.any()


def test_ssim_is_one_for_equal_images_and_falls_with_noise() -> None:
    target, image = (images.flatten(0, 1) for images in pair())
    assert float(ssim(target, target)) == pytest.approx(1, abs=1e-5)
    assert 0.2 < float(ssim(image, target)) < 0.99


def test_gradient_term_ignores_a_constant_that_charbonnier_sees() -> None:
    target = pair()[0].flatten(0, 1)
    assert float(gradient(target + 0.2, target)) < 2e-3
    assert float(charbonnier(target + 0.2, target)) == pytest.approx(0.2, rel=0.01)


def test_psnr_is_that_of_the_metrics() -> None:
    target, image = ((a * 255).round() for a in pair())
    arrays = [a.to(torch.uint8).reshape(-1, 16, 1).numpy() for a in (image, target)]
    assert float(psnr_of(image / 255, target / 255)) == pytest.approx(psnr(*arrays), abs=0.01)


def test_missing_psnr_is_the_mean_over_images_of_what_lacks_of_60_db() -> None:
    target, image = (images.flatten(0, 1) for images in pair())
    each = [float(psnr_of(a, b)) for a, b in zip(image, target, strict=True)]
    assert float(missing_psnr(image, target)) == pytest.approx(60 - sum(each) / len(each), abs=0.01)
    assert float(missing_psnr(target, target)) == pytest.approx(0, abs=1e-4)
