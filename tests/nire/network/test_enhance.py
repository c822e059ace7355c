"""Deformable convolution against a loop over pixels and taps; enhancement, folding."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import Tensor

from nire.network.enhance import DeformableConv, FeatureEnhancement
from nire.network.pyramid import ConvPyramid, activate, fold, unfold, unfold_planes
from tests.nire.network.tiny import TINY


def bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    """Sample [C, h, w] between its pixels; zero outside."""
    _, h, w = plane.shape
    total = torch.zeros(plane.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < h and 0 <= column < w:
                total += plane[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


@pytest.mark.parametrize("size", [(5, 7), (1, 7), (5, 1), (1, 1)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_deformable_convolution_equals_a_loop(kernel: int, size: tuple[int, int]) -> None:
    h, w = size
    torch.manual_seed(5)
    conv = DeformableConv(3, kernel)
    with torch.no_grad():
        conv.weight.normal_()
        conv.bias.normal_()
    maps, offsets = torch.randn(2, 3, h, w), 2 * torch.randn(2, 2 * kernel**2, h, w)
    found = conv.sample(maps, offsets)
    expected = conv.bias.detach()[None, :, None, None].repeat(2, 1, h, w)
    for i in range(2):
        for y in range(h):
            for x in range(w):
                for tap in range(kernel**2):
                    dy, dx = offsets[i, 2 * tap : 2 * tap + 2, y, x].tolist()
                    row, column = y + tap // kernel - kernel // 2 + dy, x + tap % kernel - kernel // 2 + dx
                    weight = conv.weight[:, :, tap // kernel, tap % kernel]
                    expected[i, :, y, x] += (weight @ bilinear(maps[i], row, column)).detach()
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3])
def test_deformable_convolution_equals_that_of_torchvision(kernel: int) -> None:
    # A torchvision built for another torch raises RuntimeError or OSError where an absent one raises ImportError.
    try:
        reference = importlib.import_module("torchvision.ops").deform_conv2d
    except (ImportError, RuntimeError, OSError) as problem:
        pytest.skip(f"torchvision does not work here: {problem}")
    torch.manual_seed(7)
    conv = DeformableConv(24, kernel)
    with torch.no_grad():
        conv.weight.normal_(std=(24 * kernel**2) ** -0.5)
        conv.bias.normal_()
    maps, offsets = torch.randn(2, 24, 33, 44, requires_grad=True), 2 * torch.randn(2, 2 * kernel**2, 33, 44)
    offsets.requires_grad_()
    found = conv.sample(maps, offsets)
    expected = reference(maps, offsets, conv.weight, conv.bias, padding=kernel // 2)
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-5)
    leaves = (maps, offsets, conv.weight, conv.bias)
    for mine, its in zip(*(torch.autograd.grad(y.square().sum(), leaves) for y in (found, expected)), strict=True):
        torch.testing.assert_close(mine, its, atol=2e-4 * float(its.abs().max()), rtol=1e-4)


def test_deformable_convolution_without_offsets_is_a_convolution() -> None:
    torch.manual_seed(6)
    conv = DeformableConv(4, 3)
    with torch.no_grad():
        conv.weight.normal_()
    maps = torch.randn(1, 4, 6, 9)
    torch.testing.assert_close(conv(maps), torch.conv2d(maps, conv.weight, padding=1), atol=1e-4, rtol=1e-4)


def test_sampling_in_bfloat16_keeps_its_places() -> None:
    conv = DeformableConv(1, 1)
    ramp = torch.linspace(0, 1, 346).expand(1, 1, 4, 346)
    with torch.no_grad():
        found = conv.bfloat16()(ramp.bfloat16())
    # One pixel is 0.0029; bfloat16 resolves 0.002 near 1. A grid in bfloat16 would be off by more at many columns.
    torch.testing.assert_close(found, ramp.bfloat16(), atol=1e-6, rtol=0.0)


def test_enhancement_leaves_the_coarsest_level_and_keeps_shapes() -> None:
    levels = [torch.randn(2, 8, 8, 12), torch.randn(2, 16, 4, 6)]
    enhanced = FeatureEnhancement(TINY)(levels)
    assert [level.shape for level in enhanced] == [level.shape for level in levels]
    torch.testing.assert_close(enhanced[1], levels[1])
    assert not torch.allclose(enhanced[0], levels[0])


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_unfold_undoes_fold(stride: int) -> None:
    pixels = torch.randn(2, 3, 8, 12)
    folded = fold(pixels, stride)
    assert folded.shape == (2, 3 * stride**2, 8 // stride, 12 // stride)
    for undone in (unfold(folded, stride), unfold_planes(folded, stride)):
        torch.testing.assert_close(undone, pixels, atol=0, rtol=0)
    corner = pixels[0, :, :stride, :stride].flatten().sort().values
    torch.testing.assert_close(folded[0, :, 0, 0].sort().values, corner, atol=0, rtol=0)


@pytest.mark.parametrize(("stride", "folded"), [(1, 1), (2, 1), (4, 1), (4, 2), (16, 1)])
def test_stem_over_pixels_equals_one_over_folded_squares(stride: int, folded: int) -> None:
    torch.manual_seed(0)
    pyramid = ConvPyramid(3, stride, (5,), (0,), folded)
    pixels = torch.randn(2, 3, 32, 48)
    finest = pyramid(pixels)[0]
    torch.testing.assert_close(finest, activate(pyramid.stem(fold(pixels, pyramid.fold))), atol=1e-5, rtol=0)
    assert finest.shape[2:] == (32 * folded // stride, 48 * folded // stride)
