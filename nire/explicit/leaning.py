"""Planes lean on what flow says where a sensor's events tell badly what happened, as far as both agree.

The network learned from rendered sensors how far events are to be trusted. There are recordings whose events miss far
more of the change from frame to frame than those sensors' do; flow between the frames knows nothing of that. Errors of
both are of different kinds, so their mean is nearer to the truth than either; but not where things hide one another or
are too fast for flow, which is where both differ.
"""

from __future__ import annotations

import cv2
import torch
from torch import Tensor
from torch.nn import functional

from nire.calibrate import GOOD_MISFIT
from nire.explicit.evidence import Evidence
from nire.explicit.folding_limits import blurred, halved
from nire.explicit.limits import ENOUGH_EVENTS, near

BAD_MISFIT = 0.3
"""From this `Calibration.misfit` on planes lean all the way; up to `GOOD_MISFIT` they stay as they are."""
MOST = 0.45
"""The share that flow has in the planes at most."""
# Difference of square roots of light at which it has half of that.
APART = 0.04


def leaning_on_flow(planes: Tensor, evidence: Evidence, misfit: float | None) -> Tensor:
    """Let planes lean on flow.

    Args:
        planes: float32 [K + 1, H, W], square roots of linear light; changed.
        evidence: what they were made of.
        misfit: of the sensor's events with its frames, `Calibration.misfit`.

    Returns:
        The planes.
    """
    far = 0.0 if misfit is None else (misfit - GOOD_MISFIT) / (BAD_MISFIT - GOOD_MISFIT)
    most = MOST * min(max(far, 0.0), 1.0)
    shares = evidence.moved_shares
    if most == 0 or not bool((shares > 0).all()):
        return planes
    most_here = (_near_cells(evidence.counts.diff(dim=0).clamp_min(0).sum(0)) / -ENOUGH_EVENTS).expm1_().mul_(-most)
    # Plane by plane: what is written in between stays in the nearest memory.
    for plane, (first, second), (before, after) in zip(planes, evidence.moved, shares.tolist(), strict=True):
        by_flow = torch.lerp(second, first, before / (before + after))
        apart = _near_cells((by_flow - plane).abs_())
        weight = most_here / apart.div_(APART).square_().add_(1)
        plane.lerp_(by_flow, _doubled(weight)[: plane.shape[0], : plane.shape[1]])
    return planes


def _near_cells(image: Tensor) -> Tensor:
    """Average cells of four pixels with their neighbours: [H, W] -> [h, w]; at the edges with what there is."""
    if image.device.type != "cpu":
        return near(functional.avg_pool2d(image[None, None], 2, ceil_mode=True))[0, 0]
    # OpenCV takes a twentieth of torch's time for it.
    height, width = image.shape
    even = cv2.copyMakeBorder(image.numpy(), 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return torch.from_numpy(blurred(halved(even)))


def _doubled(cells: Tensor) -> Tensor:
    """Give each cell's value to its four pixels: [h, w] -> [2 h, 2 w]."""
    if cells.device.type != "cpu":
        return functional.interpolate(cells[None, None], scale_factor=2.0)[0, 0]
    return torch.from_numpy(cv2.resize(cells.numpy(), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST))
