"""How far the network may go at each place, so that what physics has right stays as it is.

Where no event came near, nothing moved: the network neither adds light nor changes whom it hears. And a detail that two
frames agree on is no noise, but texture or the camera's own pattern: of the energy of details only the share that noise
has may be calmed, which is Wiener's filter with the noise that the frames' difference tells. Where things move they
differ for that reason too, and no more than some multiple of the noise of the whole image counts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nire.explicit.details import NOISE_ENERGY, SIZES_CALMED, details_of

LIMITS = 1 + SIZES_CALMED
"""Numbers that bound what is done to four pixels: how near events came, and how much of each size is noise."""
# From so many events per pixel on, in the mean of 6 x 6 pixels, something moved there: to 63 %.
ENOUGH_EVENTS = 0.3
# So far from it, in cells of two pixels, the network may go: what moves reaches as far as flow and smoothing do.
REACH_CELLS = 3
# Beside what one frame has of noise, in its standard deviation: events have errors of their own.
MOST_NOISE = 2.0
LEAST_ENERGY = 1e-9
NOISE_TOLD = 50.0
"""By what the noise of an image is multiplied where the network is told of it."""


def limits(number: Tensor, frames: Tensor, exposures: Tensor, observed: Tensor, told: Tensor) -> Tensor:
    """Tell how near events came, and how much of the details of each size is noise.

    Args:
        number, frames, exposures, observed, told: of `network.Inputs`.

    Returns:
        float32 [b, LIMITS, h, w], 0..1, for cells of four pixels. The first is 1 where events are missing, and the
        others are 1 where there is one frame only, which says nothing of its noise.
    """
    events = near(functional.avg_pool2d(number.expm1().sum(1, keepdim=True), 2))
    reached = functional.max_pool2d(events, 2 * REACH_CELLS + 1, 1, REACH_CELLS)
    moved = near(-(reached / -ENOUGH_EVENTS).expm1())
    is_whole = (observed > 0).all(1)[:, None, None, None]
    noise = near(functional.avg_pool2d((frames[:, :1] - frames[:, 1:]).square(), 2)) / 4
    noise = torch.minimum(noise, (MOST_NOISE / NOISE_TOLD * told[:, 1, None, None, None]).square())
    shares = []
    for gain, details in zip(NOISE_ENERGY, details_of(frames.mean(1, keepdim=True)), strict=True):
        energy = near(functional.avg_pool2d(details.square(), 2))
        shares.append((gain * noise / (energy + LEAST_ENERGY)).clamp_max(1))
    is_alone = (exposures[:, :1] == exposures[:, 1:]).flatten(1).all(1)[:, None, None, None]
    return torch.cat([moved.where(is_whole, 1.0), torch.cat(shares, 1).where(~is_alone, 1.0)], 1)


def near(cells: Tensor) -> Tensor:
    """Average 3 x 3 cells; at the edges with the last one."""
    return functional.avg_pool2d(functional.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, 1)
