"""The double integral on batches of binned events: each frame re-exposed, by itself, to any shutter (Eq. 5).

Light is V = K G with the gain G = exp(c E) of the events so far; a frame I over its own shutter fixes K. So the frame
re-exposed to another shutter is I mean(G over that shutter) / mean(G over its own). G is taken as linear between
the edges of the bins. `nire.double_integral` is the exact form for one window, and what this is tested against.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nire.integral.double_integral import DARK_LEVEL, FRAME_NOISE_EVENTS, LEAST_TRUST

DARK = DARK_LEVEL / 255
"""Dark current, as share of a full frame: I + DARK is what events are a logarithm of (as in double_integral.py)."""
# As in nire.sweep: more no frame can show.
_LOG_LIMIT = 5.7
# Shutters of less than so many steps are instants: a difference of two integrals would drown in rounding.
_INSTANT_STEPS = 1e-2


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
    wide = width > _INSTANT_STEPS
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


def re_expose(frames: Tensor, change: Tensor, frame_shutters: Tensor, shutters: Tensor) -> Tensor:
    """Expose each frame again, to each shutter, by itself.

    Args:
        frames: float32 [b, N, H, W], linear light, 1 = a full frame.
        change: float32 [b, T, H, W], of `event_integral`.
        frame_shutters: float32 [b, N, H, 2], in windows.
        shutters: float32 [b, Q, H, 2] or [b, Q, H, W, 2].

    Returns:
        float32 [b, Q, N, H, W], linear light, >= 0, not clipped above.
    """
    steps = change.shape[1]
    gain = _at_nodes(change).clamp_(-_LOG_LIMIT, _LOG_LIMIT).exp_()
    asked, own = node_shares(shutters, steps), node_shares(frame_shutters, steps)
    if asked.ndim == own.ndim:
        means = averaged(gain, torch.cat([own, asked], 1))
        own, asked = means[:, : frames.shape[1]], means[:, frames.shape[1] :]
    else:
        own, asked = averaged(gain, own), averaged(gain, asked)
    constants = (frames + DARK) / own
    return (asked[:, :, None] * constants[:, None] - DARK).clamp_(min=0)


def log_trust(counts: Tensor, observed: Tensor, frame_shutters: Tensor, shutters: Tensor) -> Tensor:
    """Tell how far each frame is to be trusted at each shutter, as `double_integral.py` does; [b, ...] windows.

    Args:
        counts: [b, T, 2, H, W], events.
        observed: float32 [b, T], 0 in steps whose events are missing.
        frame_shutters: float32 [b, N, H, 2], N 1 or 2, in windows.
        shutters: float32 [b, Q, H, 2] or [b, Q, H, W, 2].

    Returns:
        float32 [b, Q, N, H, W], logarithms.
    """
    steps = counts.shape[1]
    events, missing = _at_nodes(counts.sum(2).float()), _at_nodes(1 - observed)[..., None, None]
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
    share = share if pixels else share[..., None]
    return (share / (between(events) + FRAME_NOISE_EVENTS)).log_().clamp_(min=LEAST_TRUST)


def _of_rows(values: Tensor, like: Tensor) -> Tensor:
    """Drop the column axis [..., H, 1] where `like` has none."""
    return values[..., 0] if like.ndim == values.ndim - 1 else values


def _at_nodes(steps: Tensor) -> Tensor:
    """Sum steps [b, T, ...] up to each node: [b, T + 1, ...]; a cumsum over that axis is slow on the CPU."""
    nodes = torch.empty((steps.shape[0], steps.shape[1] + 1, *steps.shape[2:]), device=steps.device)
    nodes[:, 0] = 0
    for step in range(steps.shape[1]):
        torch.add(nodes[:, step], steps[:, step], out=nodes[:, step + 1])
    return nodes
