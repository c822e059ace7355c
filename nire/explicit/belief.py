"""How far a window's events are believed between its key planes: as far as planes say what events say.

Light between two planes follows the pixel's events, so what a noisy pixel tells would come and go between planes on
which the network has left none of it: images would flicker with their distance from the nearest plane. Planes say by
how much light changed from each to the next, and so do events. The slope of the one over the other, by least squares
over a pixel and its neighbours, is 1 where events tell what happened, and near 0 where they are noise, whose sum means
nothing. So much of the light follows the events; the rest goes evenly from plane to plane.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nire.explicit import loops
from nire.integral import loops as plane_loops
from nire.integral.double_integral import DARK_LEVEL

NEIGHBOURS_PX = 5
"""Side of the square that a pixel is judged with."""
LEAST_CHANGE = 0.005
"""Squared relative change of light that speaks for events before any came: an eighth of an event of threshold 0.2."""
LEAST_SLOPE = 0.15
"""Slope that noise has: a network's planes keep a little of it. Nothing is believed there, and all of it from 1 on."""


def belief_in(planes: Tensor, gains: Tensor) -> Tensor:
    """Tell how far the events of each pixel are believed.

    Changes are compared relative to the mean before and after, which weighs the dark, where ratios are wild, less than
    logarithms would.

    Args:
        planes: float32 [K + 1, H, W], luma, linear light in levels.
        gains: float32 [K + 1, H, W], of the events up to the planes' times.

    Returns:
        float32 [H, W], 0 to 1.
    """
    together, own = _sums_by_loops(planes, gains) if plane_loops.serve(planes, gains) else _sums(planes, gains)
    slope = (together + LEAST_CHANGE) / (own + LEAST_CHANGE)
    return slope.sub_(LEAST_SLOPE).div_(1 - LEAST_SLOPE).clamp_(0, 1)


def _sums(planes: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
    """Sum up both changes' product and the square of that by events, over bins and neighbours: [H, W] both."""
    seen, told = (_changes(levels) for levels in (planes + DARK_LEVEL, gains))
    sums = torch.stack([(seen * told).sum(0), told.square().sum(0)])
    padded = functional.pad(sums[None], (NEIGHBOURS_PX // 2,) * 4, mode="reflect")[0]
    together, own = functional.avg_pool2d(padded, NEIGHBOURS_PX, stride=1) * NEIGHBOURS_PX**2
    return together, own


def _sums_by_loops(planes: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same on a CPU."""
    sums = np.empty((2, *planes.shape[1:]), np.float32)
    loops.compare_changes(sums, planes.numpy(), gains.numpy(), DARK_LEVEL)
    size = (NEIGHBOURS_PX, NEIGHBOURS_PX)
    together, own = (torch.from_numpy(cv2.boxFilter(part, -1, size, normalize=False)) for part in sums)
    return together, own


def _changes(levels: Tensor) -> Tensor:
    """Change from plane to plane, relative to their mean: [K + 1, H, W] -> [K, H, W], -2 to 2."""
    return 2 * (levels[1:] - levels[:-1]) / (levels[1:] + levels[:-1])
