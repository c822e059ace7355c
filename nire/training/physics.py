"""The double integral on batches of binned events: each frame re-exposed, by itself, to any shutter (Eq. 5).

Light is V = K G with the gain G = exp(c E) of the events so far; a frame I over its own shutter fixes K. So the frame
re-exposed to another shutter is I mean(G over that shutter) / mean(G over its own). G is taken as linear between
the edges of the bins. `nire.integral.double_integral` is the exact form for one window, what this is tested against.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.compiled import compiled
from nire.integral.double_integral import DARK_LEVEL, FRAME_NOISE_EVENTS, LEAST_HEARD, LEAST_TRUST
from nire.ramps import RAMP_SHARE

DARK = DARK_LEVEL / 255
"""Dark current, as share of a full frame: I + DARK is what events are a logarithm of (as in double_integral.py)."""
LOG_LIMIT = 5.7
"""As in nire.integral.sweep: more change of log light no frame can show."""
INSTANT_STEPS = 1e-2
"""Shutters of less than so many steps are instants: a difference of two integrals would drown in rounding."""


def node_shares(shutters: Tensor, steps: int) -> Tensor:
    """Share that each node has in each row of an exposure, for what is linear between nodes.

    Args:
        shutters: float32 [b, K, H, 2] or per pixel [b, K, H, W, 2], in windows; times outside 0..1 are moved to its
            border.
        steps: T, of the window.

    Returns:
        float32 [b, K, T + 1, H] (or [b, K, T + 1, H, W]); sums to 1 over the nodes.
    """
    times = shutters.clamp(0, 1).unsqueeze(2) * steps
    shape = [1, 1, steps + 1] + [1] * (times.ndim - 4)
    node = torch.arange(steps + 1, device=shutters.device, dtype=shutters.dtype).view(shape)
    opens, closes = times[..., 0] - node, times[..., 1] - node
    width = times[..., 1] - times[..., 0]
    wide = width > INSTANT_STEPS
    mean = (_hat_integral(closes) - _hat_integral(opens)) / torch.where(wide, width, 1.0)
    instant = (1 - ((opens + closes) / 2).abs()).clamp_(min=0)
    return torch.where(wide, mean, instant)


def _hat_integral(x: Tensor) -> Tensor:
    """Integral of max(0, 1 - |x|) from -1 to x."""
    clipped = x.clamp(-1, 1)
    return 0.5 + clipped - 0.5 * clipped * clipped.abs()


def averaged(planes: Tensor, shares: Tensor) -> Tensor:
    """Mean over shutters of what is linear between nodes.

    Args:
        planes: float32 [b, T + 1, H, W].
        shares: of `node_shares`, [b, K, T + 1, H] or [b, K, T + 1, H, W].

    Returns:
        float32 [b, K, H, W].
    """
    if shares.ndim == 4:
        # One small matrix product per row: [K, T + 1] x [T + 1, W].
        rows = torch.matmul(shares.permute(0, 3, 1, 2), planes.permute(0, 2, 1, 3))
        return rows.permute(0, 2, 1, 3).contiguous()
    return torch.einsum("bkthw,bthw->bkhw", shares, planes)


def event_integral(counts: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Change of log light that events tell: c+ n+ - c- n-, per step.

    Args:
        counts: [b, T, 2, H, W] of any type; axis 2 is polarity, 0 darker, 1 brighter.
        positive, negative: float32 [b], believed thresholds.

    Returns:
        float32 [b, T, H, W].
    """
    up = counts[:, :, 1].float() * positive[:, None, None, None]
    return up.addcmul_(counts[:, :, 0].float(), -negative[:, None, None, None])


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What events tell at the nodes of time; between a pixel's events light goes on a ramp from one to the next.

    Attributes:
        log_gain: float32 [b, T + 1, H, W], change of log light since the window's start.
        count: float32 [b, T + 1, H, W], events since then, with a share of the next one on a ramp.
    """

    log_gain: Tensor
    count: Tensor


def changes(
    counts: Tensor,
    positive: Tensor,
    negative: Tensor,
    observed: Tensor | None = None,
    *,
    ramp_share: float = RAMP_SHARE,
) -> Changes:
    """Sum events up, with ramps in place of the staircase.

    A sensor tells of a change when it has happened: log light is not constant between two events of a pixel but on
    its way to the second. The ramp begins at the event before, at most `RAMP_SHARE` of the window earlier, at most half
    as long before as the event after it comes later, and does not reach across missing events. The events of a step
    lie evenly in it.

    Args:
        counts: [b, T, 2, H, W], events.
        positive, negative: float32 [b], believed thresholds.
        observed: float32 [b, T], 0 in steps whose events are missing; None where none are.
        ramp_share: longest ramp, as share of all steps.
    """
    if counts.device.type == "cpu" and counts.dtype == torch.uint8:
        batch, steps, _, height, width = counts.shape
        log_gain, count = (torch.empty((batch, steps + 1, height, width)) for _ in range(2))
        lost = np.zeros((batch, steps), np.bool_) if observed is None else (observed == 0).numpy()
        thresholds = torch.stack([negative, positive], 1).numpy()
        flat = (batch, steps + 1, height * width)
        ramp_up(
            log_gain.view(flat).numpy(),
            count.view(flat).numpy(),
            counts.contiguous().view(batch, steps, 2, -1).numpy(),
            thresholds,
            lost,
            ramp_share * steps,
        )
        return Changes(log_gain, count)
    return changes_by_torch(counts, positive, negative, observed, ramp_share=ramp_share)


def changes_by_torch(
    counts: Tensor,
    positive: Tensor,
    negative: Tensor,
    observed: Tensor | None = None,
    *,
    ramp_share: float = RAMP_SHARE,
) -> Changes:
    """Do what `changes` does on any device; the definition of its loop for the CPU."""
    change, number = event_integral(counts, positive, negative), _both_signs(counts)
    steps = change.shape[1]
    log_gain, count = _at_nodes(change), _at_nodes(number)
    half = 0.5 / number.clamp(min=1)
    fires = number > 0
    first = change / number.clamp(min=1)
    lost = None if observed is None else (observed == 0)[..., None, None]
    before = torch.full_like(log_gain[:, 0], -math.inf)
    previous = torch.empty_like(change)
    for step in range(steps):
        previous[:, step] = before
        before = torch.where(fires[:, step], step + 1 - half[:, step], before)
        if lost is not None:
            before = torch.where(lost[:, step], float(step + 1), before)
    coming, amount = torch.full_like(before, math.inf), torch.zeros_like(before)
    longest = torch.full_like(before, math.inf)
    for step in range(steps - 1, -1, -1):
        onwards = (coming - (step + half[:, step])) / 2
        onwards = torch.where(number[:, step] > 1, half[:, step], onwards)
        longest = torch.where(fires[:, step], onwards, longest)
        coming = torch.where(fires[:, step], step + half[:, step], coming)
        amount = torch.where(fires[:, step], first[:, step], amount)
        if lost is not None:
            coming = torch.where(lost[:, step], math.inf, coming)
        begin = torch.maximum(previous[:, step], coming - longest.clamp(max=ramp_share * steps))
        share = ((step - begin) / (coming - begin)).nan_to_num_(0.0, 0.0, 0.0).clamp_(0, 1)
        share = torch.where(coming < math.inf, share, 0.0)
        log_gain[:, step].addcmul_(share, amount)
        count[:, step] += share
    return Changes(log_gain, count)


@compiled
def ramp_up(
    log_gain: NDArray[np.float32],
    count: NDArray[np.float32],
    counts: NDArray[np.uint8],
    thresholds: NDArray[np.float32],
    lost: NDArray[np.bool_],
    reach: float,
) -> None:
    """Sum events up with ramps: `changes_by_torch`.

    Args:
        log_gain, count: [b, T + 1, P], written.
        counts: [b, T, 2, P].
        thresholds: [b, 2], of darker and brighter events.
        lost: [b, T], steps whose events are missing.
        reach: longest ramp, in steps.
    """
    steps, pixels = counts.shape[1], counts.shape[3]
    coming, amount, longest = np.empty(pixels, np.float32), np.empty(pixels, np.float32), np.empty(pixels, np.float32)
    before = np.empty((steps, pixels), np.float32)
    never = np.float32(1e9)
    for b in range(len(counts)):
        darker, brighter = thresholds[b]
        log_gain[b, 0], count[b, 0] = 0, 0
        coming[:] = -never
        for k in range(steps):
            for p in range(pixels):
                before[k, p] = coming[p]
                down, up = np.float32(counts[b, k, 0, p]), np.float32(counts[b, k, 1, p])
                log_gain[b, k + 1, p] = log_gain[b, k, p] + (up * brighter - down * darker)
                count[b, k + 1, p] = count[b, k, p] + (up + down)
                if up + down > 0:
                    coming[p] = k + 1 - np.float32(0.5) / (up + down)
            if lost[b, k]:
                coming[:] = k + 1
        coming[:] = never
        amount[:] = 0
        longest[:] = never
        for k in range(steps - 1, -1, -1):
            if lost[b, k]:
                coming[:] = never
                continue
            for p in range(pixels):
                down, up = np.float32(counts[b, k, 0, p]), np.float32(counts[b, k, 1, p])
                if up + down > 0:
                    first = k + np.float32(0.5) / (up + down)
                    mean = (up * brighter - down * darker) / (up + down)
                    longest[p] = np.float32(0.5) * (coming[p] - first)
                    if up + down > 1:
                        longest[p] = np.float32(0.5) / (up + down)
                    coming[p], amount[p] = first, mean
                if coming[p] < never:
                    begin = max(before[k, p], coming[p] - min(np.float32(reach), longest[p]))
                    share = max((k - begin) / (coming[p] - begin), np.float32(0))
                    log_gain[b, k, p] += share * amount[p]
                    count[b, k, p] += share


def re_expose(frames: Tensor, log_gain: Tensor, frame_shutters: Tensor, shutters: Tensor) -> Tensor:
    """Expose each frame again, to each shutter, by itself.

    Args:
        frames: float32 [b, N, H, W], linear light, 1 = a full frame.
        log_gain: float32 [b, T + 1, H, W], of `changes`.
        frame_shutters: float32 [b, N, H, 2], in windows.
        shutters: float32 [b, Q, H, 2] or [b, Q, H, W, 2].

    Returns:
        float32 [b, Q, N, H, W], linear light, >= 0, not clipped above.
    """
    steps = log_gain.shape[1] - 1
    gain = log_gain.clamp(-LOG_LIMIT, LOG_LIMIT).exp_()
    asked, own = node_shares(shutters, steps), node_shares(frame_shutters, steps)
    if asked.ndim == own.ndim:
        means = averaged(gain, torch.cat([own, asked], 1))
        own, asked = means[:, : frames.shape[1]], means[:, frames.shape[1] :]
    else:
        own, asked = averaged(gain, own), averaged(gain, asked)
    constants = (frames + DARK) / own
    return (asked[:, :, None] * constants[:, None] - DARK).clamp_(min=0)


def between_planes(planes: Tensor, told: Changes) -> Tensor:
    """Let events carry light from each key plane to the next, which it meets.

    Between planes k and k + 1 light is V = G ((1 - w) P_k + w P_k+1 / G_k+1) with the events' gain G since plane k and
    the share w of the bin's events that came before; of time, where it has none.

    Args:
        planes: float32 [b, K + 1, H, W], square roots of light.
        told: of the window's T steps, T a multiple of K.

    Returns:
        float32 [b, T + 1, H, W], light.
    """
    light = planes.clamp_min(0).square() + DARK
    bins = planes.shape[1] - 1
    steps = (told.log_gain.shape[1] - 1) // bins

    def since(nodes: Tensor) -> Tensor:
        return nodes[:, 1:].unflatten(1, (bins, steps)) - nodes[:, :-1:steps, None]

    log_gain, count = since(told.log_gain).clamp_(-LOG_LIMIT, LOG_LIMIT), since(told.count)
    whole = count[:, :, -1:]
    time = torch.arange(1, steps + 1, device=light.device)[:, None, None] / steps
    share = torch.where(whole > 1e-6, count / whole.clamp_min(1e-6), time)
    carried_on = light[:, :-1, None] * log_gain.exp()
    carried_back = light[:, 1:, None] * (log_gain - log_gain[:, :, -1:]).exp()
    nodes = torch.lerp(carried_on, carried_back, share).flatten(1, 2)
    return (torch.cat([light[:, :1], nodes], 1) - DARK).clamp_min(0)


def log_trust(
    counts: Tensor, observed: Tensor, frame_shutters: Tensor, shutters: Tensor, *, least_share: float = 0.0
) -> Tensor:
    """Tell how far each frame is to be trusted at each shutter, as `double_integral.py` does; [b, ...] windows.

    Args:
        counts: [b, T, 2, H, W], events.
        observed: float32 [b, T], 0 in steps whose events are missing.
        frame_shutters: float32 [b, N, H, 2], N 1 or 2, in windows.
        shutters: float32 [b, Q, H, 2] or [b, Q, H, W, 2].
        least_share: as `least` of `DoubleIntegral.shares`.

    Returns:
        float32 [b, Q, N, H, W], logarithms, `LEAST_TRUST` for a frame that missing events cut off.
    """
    steps = counts.shape[1]
    events, missing = _at_nodes(_both_signs(counts)), _at_nodes(1 - observed)[..., None, None]
    pixels = (1,) if shutters.ndim == 5 else ()
    opens, closes = (t[:, None].unflatten(-1, (-1, *pixels)) for t in frame_shutters.unbind(-1))
    middle = shutters.mean(-1)[:, :, None]

    def between(nodes: Tensor) -> Tensor:
        """Sum up what happened from each exposure to each shutter, both included: [b, Q, N, H, 1 or W]."""
        asked, opened, closed = (
            averaged(nodes, node_shares(torch.stack([t, t], -1).flatten(1, 2), steps)).unflatten(1, t.shape[1:3])
            for t in (middle, opens, closes)
        )
        return torch.maximum(asked, closed) - torch.minimum(asked, opened)

    outside = (middle < opens) | (middle > closes)
    cut = outside & (_of_rows(between(missing), outside) > 0.5)
    if frame_shutters.shape[1] == 1:
        share = torch.ones_like(cut, dtype=torch.float32)
    else:
        first_end, second_start = closes[:, :, 0], opens[:, :, 1]
        after, before = middle[:, :, 0] - first_end, second_start - middle[:, :, 0]
        ramp = (after / (second_start - first_end).clamp_min(1e-6)).clamp(0, 1)
        cut_first, cut_second = cut.unbind(2)
        alone = torch.where(cut_first == cut_second, (after >= before).float(), cut_first.float())
        ramp = torch.where(cut_first | cut_second, alone, ramp)
        share = torch.stack([1 - ramp, ramp], 2)
        if least_share:
            cut_off = torch.stack([cut_first & (ramp == 1), cut_second & (ramp == 0)], 2)
            share = torch.where(cut_off, 0.0, share.clamp(min=least_share))
    share = share if pixels else share[..., None]
    trust = (share / (between(events) + FRAME_NOISE_EVENTS)).log_().clamp_(min=LEAST_TRUST)
    return torch.where(share == 0, LEAST_TRUST, trust.clamp_(min=LEAST_HEARD)) if least_share else trust


def _of_rows(values: Tensor, like: Tensor) -> Tensor:
    """Drop the column axis [..., H, 1] where `like` has none."""
    return values[..., 0] if like.ndim == values.ndim - 1 else values


def _both_signs(counts: Tensor) -> Tensor:
    """Count events of both polarities [b, T, 2, H, W] in float32 [b, T, H, W]; a sum of small integers is slow."""
    return counts[:, :, 0].float() + counts[:, :, 1].float()


def _at_nodes(steps: Tensor) -> Tensor:
    """Sum steps [b, T, ...] up to each node: [b, T + 1, ...]; a cumsum over that axis is slow on the CPU."""
    nodes = torch.empty((steps.shape[0], steps.shape[1] + 1, *steps.shape[2:]), device=steps.device)
    nodes[:, 0] = 0
    for step in range(steps.shape[1]):
        torch.add(nodes[:, step], steps[:, step], out=nodes[:, step + 1])
    return nodes
