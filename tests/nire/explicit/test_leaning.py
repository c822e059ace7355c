"""Planes lean on flow where events tell badly what happened, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nire.calibrate import GOOD_MISFIT
from nire.explicit import leaning
from nire.explicit.config import NANO
from nire.explicit.evidence import Evidence, still_evidence
from nire.explicit.leaning import APART, BAD_MISFIT, MOST, leaning_on_flow
from nire.explicit.limits import ENOUGH_EVENTS, near

HEIGHT, WIDTH = 13, 18


def seen(seed: int = 0) -> tuple[Tensor, Evidence]:
    """Planes and evidence of a window in which a few pixels had events."""
    torch.manual_seed(seed)
    evidence = still_evidence(NANO, HEIGHT, WIDTH)
    planes = torch.rand(NANO.planes, HEIGHT, WIDTH)
    events = (torch.rand(NANO.planes, HEIGHT, WIDTH) < 0.1).float().cumsum(0)
    moved = (planes[:, None] + 0.05 * torch.randn(NANO.planes, 2, HEIGHT, WIDTH)).clamp(0, 1)
    gone = torch.linspace(0.1, 0.9, NANO.planes)
    return planes, replace(evidence, counts=events, moved=moved, moved_shares=torch.stack([1 - gone, gone], 1))


def mean_of_cells(image: Tensor) -> Tensor:
    """Average 2 x 2 pixels, then 3 x 3 of those, pixel by pixel; at the edges with what there is, then the last one."""
    height, width = image.shape
    cells = torch.empty(-(-height // 2), -(-width // 2))
    for y in range(len(cells)):
        for x in range(cells.shape[1]):
            cells[y, x] = image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean()
    smooth = torch.empty_like(cells)
    for y in range(len(cells)):
        for x in range(cells.shape[1]):
            rows = [min(max(y + n, 0), len(cells) - 1) for n in (-1, 0, 1)]
            columns = [min(max(x + n, 0), cells.shape[1] - 1) for n in (-1, 0, 1)]
            smooth[y, x] = cells[rows][:, columns].mean()
    return smooth


@pytest.mark.parametrize("misfit", [(GOOD_MISFIT + BAD_MISFIT) / 2, 1.0])
def test_planes_lean_as_far_as_events_misfit_and_flow_agrees(misfit: float) -> None:
    planes, evidence = seen()
    most = MOST * (0.5 if misfit < BAD_MISFIT else 1.0)
    leaned = leaning_on_flow(planes.clone(), evidence, misfit)
    events = mean_of_cells(evidence.counts[-1] - evidence.counts[0])
    for k in range(NANO.planes):
        before, after = evidence.moved_shares[k].tolist()
        by_flow = (before * evidence.moved[k, 0] + after * evidence.moved[k, 1]) / (before + after)
        apart = mean_of_cells((by_flow - planes[k]).abs())
        weight = most * (1 - (-events / ENOUGH_EVENTS).exp()) / (1 + (apart / APART) ** 2)
        weight = weight.repeat_interleave(2, 0).repeat_interleave(2, 1)[:HEIGHT, :WIDTH]
        torch.testing.assert_close(leaned[k], (1 - weight) * planes[k] + weight * by_flow)
    assert not torch.equal(leaned, planes)


@pytest.mark.parametrize("misfit", [None, 0.0, GOOD_MISFIT])
def test_planes_stay_where_events_fit(misfit: float | None) -> None:
    planes, evidence = seen()
    assert torch.equal(leaning_on_flow(planes.clone(), evidence, misfit), planes)


def test_planes_stay_where_there_is_no_flow_and_where_nothing_moved() -> None:
    planes, evidence = seen()
    alone = replace(evidence, moved_shares=torch.zeros(NANO.planes, 2))
    assert torch.equal(leaning_on_flow(planes.clone(), alone, BAD_MISFIT), planes)
    still = replace(evidence, counts=torch.zeros_like(evidence.counts))
    assert torch.equal(leaning_on_flow(planes.clone(), still, BAD_MISFIT), planes)


def test_flow_that_says_something_else_is_hardly_heard() -> None:
    planes, evidence = seen()
    elsewhere = replace(evidence, moved=(planes[:, None] + 0.6).expand(-1, 2, -1, -1))
    assert (leaning_on_flow(planes.clone(), elsewhere, BAD_MISFIT) - planes).abs().max() < 0.01


@pytest.mark.parametrize("shape", [(13, 18), (12, 7), (16, 16)])
def test_opencv_averages_and_doubles_as_torch_does(shape: tuple[int, int]) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    cells = near(functional.avg_pool2d(image[None, None], 2, ceil_mode=True))
    torch.testing.assert_close(leaning._near_cells(image), cells[0, 0])
    doubled = functional.interpolate(cells, scale_factor=2.0)[0, 0]
    assert torch.equal(leaning._doubled(cells[0, 0]), doubled)
