"""PSNR and SSIM against hand-made values."""

from __future__ import annotations

import numpy as np
import pytest

from nire.metrics import psnr, ssim


def test_psnr_of_a_uniform_error_is_the_textbook_value() -> None:
    truth = np.full((20, 20, 1), 100, np.uint8)
    assert psnr(truth + 5, truth) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr(truth, truth) == 100.0


def test_ssim_is_1_for_equal_images_and_falls_with_blur() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 255, (40, 40, 1)).astype(np.uint8)
    assert ssim(truth, truth) == pytest.approx(1.0)
    assert ssim(np.full_like(truth, 128), truth) < 0.1


def test_images_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="equal shape"):
        psnr(np.zeros((2, 2, 1), np.uint8), np.zeros((2, 3, 1), np.uint8))
