"""Samples of the explicit content: witnesses at key times in, key planes and asked shutters to be right.

Key planes have a truth at all times in a rendered scene, so each window teaches K + 1 of them beside what is asked.
What lies between two planes is physics (`between_planes`), the same in training as it is live.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nire.explicit.network import BY_EVENTS, BY_FLOW, CUT, ROLLED, Inputs, prior
from nire.explicit.rolled import MOST_AGE
from nire.explicit.witnesses import LEAST_SHARE, noise_levels, scaled
from nire.flow import motion_between
from nire.integral.double_integral import FRAME_NOISE_EVENTS, LEAST_HEARD
from nire.light import BRIGHTEST
from nire.training.physics import (
    DARK,
    LOG_LIMIT,
    Changes,
    averaged,
    between_planes,
    changes,
    log_trust,
    node_shares,
    re_expose,
)
from nire.training.samples import Cut, Window

# Witnesses and images are compared in squares of so many pixels, so that noise does not decide.
_COMPARED_PX = 5
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a sensor saw of the same windows with other noise: it stands in for the window before.

    What the network makes of it, exposed at the end of the first frame, is as wrong as what a window ends with that
    goes back to nothing; one that goes back further is less so, because noise has averaged out.

    Attributes:
        inputs: of the network.
        changes: what events tell, in T steps.
        node: int64 [b], the step at the end of the first frame's exposure.
        age: float32 [b], windows that it is said to go back.
        wrong: float32 [b], 0..1, how much of its error it keeps.
    """

    inputs: Inputs
    changes: Changes
    node: Tensor
    age: Tensor
    wrong: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ExplicitSample:
    """A batch of b windows of one task; images are square roots of linear light.

    Attributes:
        inputs: of the network.
        changes: what events tell, in T steps.
        asked: float32 [b, Q, H, 2], shutters.
        target: float32 [b, Q + K + 1, 1, H, W], what is right at the asked shutters, then at the key times.
        task: its name.
        index: of the batch; with the run's seed it gives the same batch again.
        again: where the content rolls: what stands in for the window before.
    """

    inputs: Inputs
    changes: Changes
    asked: Tensor
    target: Tensor
    task: str
    index: int
    again: Look | None = None

    def expose(self, network: Callable[..., Tensor]) -> Tensor:
        """Let a network clean the planes: [b, Q + K + 1, 1, H, W], the asked shutters, then the planes."""
        inputs = self.inputs if self.again is None else self._rolled(self.again, network)
        return self._images(network(*inputs).float())

    @torch.no_grad()
    def _rolled(self, again: Look, network: Callable[..., Tensor]) -> Inputs:
        """Put what the window before ended with among the witnesses."""
        batch = torch.arange(len(again.node), device=again.node.device)
        right = between_planes(self.target[:, self.asked.shape[1] :, 0], self.changes)[batch, again.node]
        seen = between_planes(network(*again.inputs).float(), again.changes)[batch, again.node]
        light = torch.lerp(right, seen, again.wrong[:, None, None]).clamp_min(0)
        planes = self.inputs.witnesses.shape[1]
        told, steps = self.changes, self.changes.log_gain.shape[1] - 1
        keys = slice(None, None, steps // (planes - 1))
        gone = told.log_gain[:, keys] - told.log_gain[batch, again.node][:, None]
        carried = (light[:, None] + DARK) * gone.clamp(-LOG_LIMIT, LOG_LIMIT).exp() - DARK
        between = (told.count[:, keys] - told.count[batch, again.node][:, None]).abs()
        witnesses, trust = self.inputs.witnesses.clone(), self.inputs.trust.clone()
        witnesses[:, :, ROLLED] = carried.clamp(0, BRIGHTEST**2).sqrt()
        trust[:, :, ROLLED] = (between + FRAME_NOISE_EVENTS).log().neg().clamp_min(LEAST_HEARD)
        # A gap forgets.
        kept = (self.inputs.observed > 0).all(1)
        witnesses[:, :, ROLLED] = torch.where(
            kept[:, None, None, None], witnesses[:, :, ROLLED], self.inputs.witnesses[:, :, ROLLED]
        )
        trust[:, :, ROLLED] = torch.where(kept[:, None, None, None], trust[:, :, ROLLED], 2 * CUT)
        aged = self.inputs.told.clone()
        aged[:, -1] = torch.where(kept, again.age.log1p(), 0.0)
        return self.inputs._replace(witnesses=witnesses, trust=trust, told=aged)

    def judged(self, images: Tensor) -> Tensor:
        """Give images as they are compared with the target: as they are."""
        return images

    def worse(self, images: Tensor) -> Tensor:
        """Tell by how much images are worse than the best witness, in the mean over all squares of pixels: []."""
        first = self.asked.shape[1]
        right = self.target[:, first:]
        witnesses = self.inputs.witnesses
        trusted = self.inputs.trust > CUT
        errors = _in_squares((witnesses - right).abs().flatten(0, 1)).view_as(witnesses)
        best = torch.where(trusted, errors, torch.inf).amin(2)
        error = _in_squares((images[:, first:] - right).abs().flatten(0, 2)[:, None]).view_as(best)
        return functional.relu(error - best - _TOLERANCE).mean()

    @property
    def frames(self) -> Tensor:
        """Captured frames, [b, N, H, W]; a single one is there twice."""
        return self.inputs.frames

    @property
    def middle_change(self) -> Tensor:
        """Sum of the events around the window's middle, log units: [b, H, W]."""
        middle = self.inputs.change.shape[1] // 2
        return self.inputs.change[:, middle - 1 : middle + 1].sum(1)

    def estimates(self) -> Tensor:
        """Give what physics says before the network: [b, Q + K + 1, 2, H, W], by events and by flow."""
        shares = functional.softmax(prior(self.inputs), 2)
        pairs = []
        for pair in (BY_EVENTS, BY_FLOW):
            weights = shares[:, :, pair]
            mixed = (self.inputs.witnesses[:, :, pair] * weights).sum(2) / weights.sum(2).clamp_min(1e-9)
            pairs.append(self._images(mixed))
        return torch.cat(pairs, 2)

    def _images(self, planes: Tensor) -> Tensor:
        light = between_planes(planes, self.changes)
        steps = light.shape[1] - 1
        exposed = averaged(light, node_shares(self.asked, steps)).clamp_min(1e-8).sqrt()
        return torch.cat([exposed, planes], 1)[:, :, None]


def cut_at_key_times(bins: int, queries: int, *, rolled_share: float = 0.0) -> Cut:
    """Cut windows as the network of the explicit content takes them: K bins, and all key planes are asked.

    Args:
        bins: K.
        queries: Q, shutters that are asked besides.
        rolled_share: share of windows that go on from one before.
    """
    return Cut(bins, bins + 1, partial(make_explicit_sample, planes=bins + 1, queries=queries), rolled_share)


def make_explicit_sample(
    window: Window,
    positive: Tensor,
    negative: Tensor,
    *,
    planes: int,
    queries: int,
    task: str,
    index: int,
    again: Window | None = None,
) -> ExplicitSample:
    """Turn windows into witnesses.

    Args:
        window: b windows of T steps, T a multiple of `planes` - 1; its last `planes` shutters are the key times.
        positive, negative: float32 [b], believed thresholds.
        planes: K + 1.
        queries: Q, shutters that are asked before those.
        task, index: kept in the sample.
        again: the same windows, of two frames, with other noise; where the content rolls.
    """
    inputs, told = _given(window, positive, negative, planes)
    look = None
    if again is not None:
        look = _look(again, positive, negative, planes, np.random.default_rng([index, 63]))
    shutters, target = window.shutters[:, :queries], window.target.sqrt()[:, :, None]
    return ExplicitSample(inputs, told, shutters, target, task, index, look)


def _look(again: Window, positive: Tensor, negative: Tensor, planes: int, rng: np.random.Generator) -> Look:
    inputs, told = _given(again, positive, negative, planes)
    batch, steps = again.counts.shape[:2]
    node = (again.frame_shutters[:, 0].amax((1, 2)) * steps).round().long().clamp(0, steps)
    ages = np.exp(rng.uniform(0, np.log(MOST_AGE), batch))
    kept = np.clip(ages**-0.35 * rng.uniform(0.8, 1.2, batch), 0, 1)
    age, wrong = (torch.from_numpy(a.astype(np.float32)).to(node.device) for a in (ages, kept))
    return Look(inputs, told, node, age, wrong)


def _given(window: Window, positive: Tensor, negative: Tensor, planes: int) -> tuple[Inputs, Changes]:
    """Make what the network takes of windows, and what their events tell."""
    told = changes(window.counts, positive, negative, window.observed)
    frames, exposures = window.frames, window.frame_shutters
    keys = torch.linspace(0, 1, planes)[None, :, None, None].expand(len(exposures), -1, exposures.shape[2], 2)
    by_events = re_expose(frames, told.log_gain, exposures, keys).sqrt().clamp_(max=BRIGHTEST)
    trust = log_trust(window.counts, window.observed, exposures, keys, least_share=LEAST_SHARE)
    middles = re_expose(frames, told.log_gain, exposures, exposures.mean(-1, keepdim=True).expand_as(exposures))
    by_flow, moved_trust = _moved(middles.sqrt().clamp_(max=BRIGHTEST), exposures, keys)
    if frames.shape[1] == 1:
        by_events, frames, exposures = (torch.cat([values] * 2, axis) for values, axis in
                                        ((by_events, 2), (frames, 1), (exposures, 1)))  # fmt: skip
        trust = torch.cat([trust, torch.full_like(trust, 2 * CUT)], 2)
    bins = planes - 1
    steps = window.counts.shape[1] // bins
    change = told.log_gain[:, ::steps].diff(dim=1)
    count = (told.count[:, ::steps].diff(dim=1)).clamp_min(0).log1p_()
    roots = frames.sqrt()
    noise = noise_levels(roots[:, : window.frames.shape[1]])
    numbers = torch.cat([noise, positive[:, None], negative[:, None]], 1)
    inputs = Inputs(
        torch.cat([by_events, by_flow, by_events[:, :, :1]], 2),
        torch.cat([trust, moved_trust, torch.full_like(trust[:, :, :1], 2 * CUT)], 2),
        change,
        count,
        roots,
        exposures,
        window.observed.unflatten(1, (bins, -1)).amin(2),
        scaled(numbers, window.window_us, torch.zeros_like(window.window_us)),
    )
    return inputs, told


def _moved(middles: Tensor, exposures: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Move frames along flow to the key times.

    Args:
        middles: [b, N, N, H, W], square roots: each frame (axis 2) at the middle of each exposure (axis 1).
        exposures: [b, N, H, 2].
        keys: [b, K + 1, H, 2].

    Returns:
        [b, K + 1, 2, H, W] square roots of light and their logarithm of trust: the share of time of each.
    """
    batch, count, _, height, width = middles.shape
    planes = keys.shape[1]
    if count == 1:
        moved = middles[:, :, 0].expand(-1, planes, -1, -1)[:, :, None].expand(-1, -1, 2, -1, -1)
        return moved.contiguous(), torch.full_like(moved, 2 * CUT)
    moved = torch.empty((batch, planes, 2, height, width))
    first_us, second_us = exposures.mean((2, 3)).unbind(1)
    share = (keys.mean((2, 3)) - first_us[:, None]) / (second_us - first_us).clamp_min(1e-3)[:, None]
    for k in range(batch):
        motion = motion_between(*(middles[k, n, n].cpu().numpy() for n in (0, 1)))
        for plane in range(planes):
            images = motion.at(float(share[k, plane]))
            moved[k, plane] = torch.from_numpy(np.stack(images))
    shares = torch.stack([1 - share, share], -1).clamp(LEAST_SHARE, 1).log_()
    return moved.to(middles.device), shares[..., None, None].expand(-1, -1, -1, height, width).to(middles.device)


def _in_squares(images: Tensor) -> Tensor:
    return functional.avg_pool2d(images, _COMPARED_PX, 1, _COMPARED_PX // 2, count_include_pad=False)
