"""Q shutters exposed from key planes by one Triton kernel, in place of the dozen passes over memory that torch takes.

A program has a row and some of its columns. It reads their key planes and the nodes of their events once, keeps Q sums
in registers, and writes Q images. The definition is `between_planes` and `averaged` in `nire/training/physics.py`.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from nire.training.physics import DARK, INSTANT_STEPS, LOG_LIMIT

_SUMS = 2048
"""Sums that a program keeps, of all its pixels and queries: more do not fit into the registers of four warps."""


def exposed(planes: Tensor, log_gain: Tensor, count: Tensor, shutters: Tensor) -> Tensor:
    """Expose shutters.

    Args:
        planes: float32 [b, K + 1, H, W], square roots of light.
        log_gain, count: float32 [b, T + 1, H, W], of `Changes`, T a multiple of K.
        shutters: float32 [b, Q, H, 2], in windows.

    Returns:
        float32 [b, Q, H, W], light.
    """
    batch, planes_count, height, width = planes.shape
    bins, queries = planes_count - 1, shutters.shape[1]
    images = planes.new_empty((batch, queries, height, width))
    rows = max(2, triton.next_power_of_2(queries))
    columns = max(16, min(triton.next_power_of_2(width), _SUMS // rows, 256))
    grid = (triton.cdiv(width, columns), height, batch)
    _expose[grid](
        planes.contiguous(),
        log_gain.contiguous(),
        count.contiguous(),
        shutters.contiguous(),
        images,
        queries,
        height,
        width,
        bins=bins,
        steps=(log_gain.shape[1] - 1) // bins,
        dark=DARK,
        limit=LOG_LIMIT,
        narrow=INSTANT_STEPS,
        rows=rows,
        columns=columns,
    )
    return images


@triton.jit
def _hat_integral(x):  # type: ignore[no-untyped-def]
    clipped = tl.minimum(tl.maximum(x, -1.0), 1.0)
    return 0.5 + clipped - 0.5 * clipped * tl.abs(clipped)


@triton.jit
def _share(opens, closes, node, narrow):  # type: ignore[no-untyped-def]
    """Share of a node in each exposure, as `node_shares`: [rows]."""
    width = closes - opens
    wide = width > narrow
    mean = (_hat_integral(closes - node) - _hat_integral(opens - node)) / tl.where(wide, width, 1.0)
    instant = tl.maximum(1.0 - tl.abs((opens + closes) * 0.5 - node), 0.0)
    return tl.where(wide, mean, instant)


@triton.jit
def _expose(  # type: ignore[no-untyped-def]
    planes,
    log_gain,
    count,
    shutters,
    images,
    queries,
    height,
    width,
    bins: tl.constexpr,
    steps: tl.constexpr,
    dark: tl.constexpr,
    limit: tl.constexpr,
    narrow: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
):
    x = tl.program_id(0) * columns + tl.arange(0, columns)
    y, b = tl.program_id(1), tl.program_id(2)
    q = tl.arange(0, rows)
    inside, asked = x < width, q < queries
    image = height * width
    pixel = y * width + x
    planes += b.to(tl.int64) * (bins + 1) * image
    nodes = b.to(tl.int64) * (bins * steps + 1) * image
    asked_at = shutters + ((b * queries + q) * height + y) * 2
    whole = bins * steps * 1.0
    opens = tl.minimum(tl.maximum(tl.load(asked_at, asked, 0.0), 0.0), 1.0) * whole
    closes = tl.minimum(tl.maximum(tl.load(asked_at + 1, asked, 0.0), 0.0), 1.0) * whole

    plane = tl.maximum(tl.load(planes + pixel, inside, 0.0), 0.0)
    before = plane * plane + dark
    gain_before = tl.load(log_gain + nodes + pixel, inside, 0.0)
    count_before = tl.load(count + nodes + pixel, inside, 0.0)
    sums = _share(opens, closes, 0.0, narrow)[:, None] * tl.maximum(before - dark, 0.0)[None, :]
    for k in range(bins):
        plane = tl.maximum(tl.load(planes + (k + 1) * image + pixel, inside, 0.0), 0.0)
        after = plane * plane + dark
        end = nodes + (k + 1) * steps * image + pixel
        gain_after, count_after = tl.load(log_gain + end, inside, 0.0), tl.load(count + end, inside, 0.0)
        change = tl.minimum(tl.maximum(gain_after - gain_before, -limit), limit)
        events = count_after - count_before
        for s in range(1, steps + 1):
            at = nodes + (k * steps + s) * image + pixel
            gain = tl.load(log_gain + at, inside, 0.0) - gain_before
            gain = tl.minimum(tl.maximum(gain, -limit), limit)
            so_far = tl.load(count + at, inside, 0.0) - count_before
            share = tl.where(events > 1e-6, so_far / tl.maximum(events, 1e-6), s * (1.0 / steps))
            carried_on = before * tl.exp(gain)
            carried_back = after * tl.exp(gain - change)
            light = tl.maximum(carried_on + share * (carried_back - carried_on) - dark, 0.0)
            sums += _share(opens, closes, (k * steps + s) * 1.0, narrow)[:, None] * light[None, :]
        before, gain_before, count_before = after, gain_after, count_after
    to = images + ((b * queries + q).to(tl.int64)[:, None] * height + y) * width + x[None, :]
    tl.store(to, sums, asked[:, None] & inside[None, :])
