"""What the witnesses of a window go back to, and how each of them is called up from it at every key time.

This is the definition, by torch on any device; `folding.py` reads the same evidence in one pass over a CPU's memory.
`nire.training.explicit` does the same for batches of binned events; what the network has learned there holds here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nire.explicit.config import ExplicitConfig
from nire.explicit.network import BY_FLOW, CARRIED, CUT, TOLD, WITNESSES, Inputs
from nire.integral.double_integral import DARK_LEVEL, FRAME_NOISE_EVENTS, LEAST_HEARD
from nire.light import BRIGHTEST


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Of one window; luma, and times in windows.

    Attributes:
        constants: float32 [3, H, W], what events carry (`CARRIED`): light in levels, with `DARK_LEVEL`, where the
            gain is 1. In place of one that is not there stands any other.
        opened, closed: float32 [3, H, W], events until the exposure of each begins and ends.
        shares: float32 [K + 1, 3, H], share of time of each; 0 where it is not to be heard.
        gains, counts: float32 [K + 1, H, W], gain and number of events at the key times, with ramps.
        moved: float32 [K + 1, 2, H, W], both frames moved along flow, square roots of linear light.
        moved_shares: float32 [K + 1, 2], share of time of each; 0 where it is not to be heard.
        frames: float32 [2, H, W], captured, square roots of linear light; a single one twice.
        exposures: float32 [2, height, 2], start and end of the rows' exposures, padded.
        observed: float32 [K], 0 in bins whose events are missing, else 1.
        told: float32 [6], as of `Inputs`.
    """

    constants: Tensor
    opened: Tensor
    closed: Tensor
    shares: Tensor
    gains: Tensor
    counts: Tensor
    moved: Tensor
    moved_shares: Tensor
    frames: Tensor
    exposures: Tensor
    observed: Tensor
    told: Tensor


def still_evidence(config: ExplicitConfig, height: int, width: int) -> Evidence:
    """Make evidence of one window, to time and to compile with: gray, and nothing happens; values change no graph.

    Args:
        config: of the network.
        height, width: padded.
    """
    planes, bins, size = config.planes, config.bins, (height, width)
    still = torch.zeros(planes, *size)
    return Evidence(
        torch.full((3, *size), 100.0),
        torch.zeros(3, *size),
        torch.zeros(3, *size),
        torch.ones(planes, 3, height),
        still + 1,
        still,
        torch.full((planes, 2, *size), 0.6),
        torch.ones(planes, 2),
        torch.full((2, *size), 0.6),
        torch.zeros(2, height, 2),
        torch.ones(bins),
        torch.zeros(TOLD),
    )


def called_up(evidence: Evidence, padded: tuple[int, int]) -> Inputs:
    """Call up all witnesses.

    Args:
        evidence: of one window.
        padded: height and width; the last row and column are repeated.

    Returns:
        What the network takes, b = 1.
    """
    planes, (height, width) = len(evidence.gains), evidence.gains.shape[1:]
    seen = evidence.gains.new_empty((planes, WITNESSES, height, width))
    trust = torch.full_like(seen, 2 * CUT)
    carried = evidence.constants * evidence.gains[:, None] - DARK_LEVEL
    seen[:, CARRIED] = carried.div_(255).clamp_(0, BRIGHTEST**2).sqrt_()
    seen[:, BY_FLOW] = evidence.moved
    counts = evidence.counts[:, None]
    between = torch.maximum(counts, evidence.closed) - torch.minimum(counts, evidence.opened)
    shares = evidence.shares[..., None]
    told = (shares / (between + FRAME_NOISE_EVENTS)).log().clamp_min(LEAST_HEARD)
    trust[:, CARRIED] = torch.where(shares > 0, told, 2 * CUT)
    moved = evidence.moved_shares[..., None, None]
    trust[:, BY_FLOW] = torch.where(moved > 0, moved.log(), 2 * CUT)
    return Inputs(
        _wide(seen, padded),
        _wide(trust, padded),
        _wide(evidence.gains.log().diff(dim=0), padded),
        _wide(evidence.counts.diff(dim=0).clamp_min(0).log1p(), padded),
        _wide(evidence.frames, padded),
        evidence.exposures[None],
        evidence.observed[None],
        evidence.told[None],
    )


def _wide(planes: Tensor, padded: tuple[int, int]) -> Tensor:
    """Repeat the last row and column: [..., H, W] -> [1, ..., height, width]."""
    below, right = padded[0] - planes.shape[-2], padded[1] - planes.shape[-1]
    flat = functional.pad(planes.flatten(0, -3)[None], (0, right, 0, below), mode="replicate")
    return flat.view(1, *planes.shape[:-2], *padded)
