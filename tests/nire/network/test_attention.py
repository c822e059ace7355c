"""Temporalized attention against a loop over windows and heads, written from Eqs. 9, 12 and 13."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nire.network.attention import TemporalizedAttention, from_windows, to_windows

CHANNELS, HEADS, R, BANDS = 8, 2, 2, 3


def block(*, temporal: bool = True) -> TemporalizedAttention:
    torch.manual_seed(4)
    return TemporalizedAttention(CHANNELS, heads=HEADS, window=R, bands=BANDS, ffn_ratio=2, temporal=temporal)


def naive(module: TemporalizedAttention, maps: Tensor, times: Tensor) -> Tensor:
    """One window at a time, one head at a time; float32 [n, h, w, C], times [n, h, w, 4 K]."""
    n, h, w, channels = maps.shape
    out, d = torch.empty_like(maps), channels // HEADS
    f_q, f_k, f_v = (
        lambda z, i=i: (
            z @ module.f_qkv.weight[i * channels : (i + 1) * channels].T
            + module.f_qkv.bias[i * channels : (i + 1) * channels]
        )
        for i in range(3)
    )
    for y in range(0, h, R):
        for x in range(0, w, R):
            z = maps[:, y : y + R, x : x + R].reshape(-1, channels)
            t = times[:, y : y + R, x : x + R].reshape(-1, times.shape[-1])
            normed = module.attention_norm(z)
            time = module.f_time(t) if module.f_time is not None else 0
            q, k, v = f_q(normed) + time, f_k(normed) + time, f_v(normed)
            heads = [slice(i * d, (i + 1) * d) for i in range(HEADS)]
            read = [torch.softmax(q[:, s] @ k[:, s].T / math.sqrt(d), -1) @ v[:, s] for s in heads]
            z = z + module.project(torch.cat(read, -1))
            z = z + module.ffn(module.ffn_norm(z))
            out[:, y : y + R, x : x + R] = z.reshape(n, R, R, channels)
    return out


@pytest.mark.parametrize("temporal", [True, False])
@pytest.mark.parametrize("across", [1, 6], ids=["per_row", "per_pixel"])
def test_attention_equals_a_loop_over_windows(temporal: bool, across: int) -> None:
    module = block(temporal=temporal)
    maps, times = torch.randn(2, 3, 4, 6, CHANNELS), torch.randn(2, 3, 4, across, 4 * BANDS)
    found = module(maps, times)
    for i in range(2):
        torch.testing.assert_close(
            found[i], naive(module, maps[i], times[i].expand(-1, -1, 6, -1)), atol=1e-5, rtol=1e-5
        )


def test_windows_and_back_change_nothing() -> None:
    maps = torch.randn(2, 3, 4, 6, CHANNELS)
    torch.testing.assert_close(from_windows(to_windows(maps, R), maps.shape, R), maps, atol=0, rtol=0)


def test_film_that_reads_a_content_equals_attention_without_its_own_keys() -> None:
    module = block()
    content, film = torch.randn(1, 3, 4, 6, CHANNELS), torch.randn(1, 1, 4, 6, CHANNELS)
    times, shutter = torch.randn(1, 3, 4, 1, 4 * BANDS), torch.randn(1, 1, 4, 1, 4 * BANDS)
    found = module.read(film, shutter, module.remember(content, times))

    def windows(maps: Tensor, part: int, time: Tensor | None) -> Tensor:
        weight, bias = module.f_qkv.weight.chunk(3)[part], module.f_qkv.bias.chunk(3)[part]
        projected = module.attention_norm(maps) @ weight.T + bias
        laid = projected if time is None else projected + module.f_time(time)  # type: ignore[misc]
        return to_windows(laid, R).unflatten(-1, (HEADS, -1)).transpose(1, 2)

    read = torch.nn.functional.scaled_dot_product_attention(
        windows(film, 0, shutter), windows(content, 1, times), windows(content, 2, None)
    )
    z = film + module.project(from_windows(read.transpose(1, 2).flatten(2), film.shape, R))
    torch.testing.assert_close(found, z + module.ffn(module.ffn_norm(z)), atol=1e-5, rtol=1e-5)
