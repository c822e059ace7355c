"""Time encoding: Eqs. 10 and 11."""

from __future__ import annotations

import math

import pytest
import torch

from nire.network.encoding import content_ranges, encode_range, encode_time, to_level


@pytest.mark.parametrize("t", [0.0, 0.125, 0.3, 1.0])
def test_time_encoding_is_equation_10(t: float) -> None:
    expected = [f(2**k * math.pi * t) for k in range(6) for f in (math.sin, math.cos)]
    torch.testing.assert_close(encode_time(torch.tensor(t), 6), torch.tensor(expected), atol=1e-4, rtol=0)


def test_range_encoding_is_start_then_end() -> None:
    ranges = torch.rand(2, 3, 5, 1, 2)
    encoded = encode_range(ranges, 4)
    assert encoded.shape == (2, 3, 5, 1, 16)
    torch.testing.assert_close(encoded[..., :8], encode_time(ranges[..., 0], 4))
    torch.testing.assert_close(encoded[..., 8:], encode_time(ranges[..., 1], 4))


def test_token_gets_the_mean_time_of_its_rows_or_pixels() -> None:
    rows = torch.rand(1, 2, 8, 2)
    torch.testing.assert_close(to_level(rows, 4)[0, 1, 1, 0], rows[0, 1, 4:8].mean(0))
    pixels = rows.unsqueeze(3).expand(-1, -1, -1, 12, -1)
    torch.testing.assert_close(to_level(pixels, 4), to_level(rows, 4).expand(-1, -1, -1, 3, -1))


def test_segments_come_before_images() -> None:
    images, segments = torch.rand(1, 2, 8, 2), torch.rand(1, 3, 2)
    ranges = content_ranges(images, segments)
    assert ranges.shape == (1, 5, 8, 2)
    torch.testing.assert_close(ranges[:, :3, 5], segments)
    torch.testing.assert_close(ranges[:, 3:], images)
