"""Samples of the remembered content: windows of events that follow one another, and what was visible at their ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nire.ramps import RAMP_SHARE
from nire.recurrent.network import FORGOTTEN, GRAY, Events, carried, told
from nire.training.physics import changes
from nire.training.samples import Cut, Window

BEGINNING = 2
"""Windows at the start of a stream of which nothing is asked: so little is known then."""
PAUSED_SHARE, LONGEST_PAUSE = 0.5, 6
"""Share of batches in which everything stands still for a while, and for how many windows at most."""
# Events of a pixel in a bin of such a window: from the fewest to the most.
_NOISE_EVENTS = 1e-4, 3e-2
# How much errors count where nothing was seen within so far.
_UNSEEN, _NEAR_PX = 0.2, 2


@dataclass(frozen=True, slots=True, eq=False)
class RecurrentSample:
    """A batch of b streams of W windows of K bins; images are square roots of linear light.

    Attributes:
        events: of each window.
        target: float32 [b, (W - `BEGINNING`) K, 1, H, W], what is right at the ends of bins.
        task: its name.
        index: of the batch; with the run's seed it gives the same batch again.
    """

    events: tuple[Events, ...]
    target: Tensor
    task: str
    index: int

    def expose(self, network: Callable[..., Any]) -> Tensor:
        """Let a network go through the stream: [b, (W - `BEGINNING`) K, 1, H, W]."""
        before, planes = self._gray(), []
        mind: list[Tensor] = []
        for events in self.events:
            seen, *mind = network(before, *events, *mind)
            planes.append(seen)
            before = seen[:, -1]
        return torch.cat(planes[BEGINNING:], 1)[:, :, None]

    def judged(self, images: Tensor) -> Tensor:
        """Give images as they are compared with the target.

        Errors count little where no event came near since the stream began: there one can only guess.
        """
        weight = torch.lerp(torch.full_like(images, _UNSEEN), torch.ones_like(images), self._seen())
        return torch.lerp(self.target, images, weight)

    def _seen(self) -> Tensor:
        """Tell where events came near until the end of each bin: [b, (W - `BEGINNING`) K, 1, H, W], 0 or 1."""
        number = torch.cat([events.number for events in self.events], 1).cumsum(1)[:, -self.target.shape[1] :]
        near = functional.max_pool2d((number > 0).float(), 2 * _NEAR_PX + 1, 1, _NEAR_PX)
        return near[:, :, None]

    def worse(self, images: Tensor) -> Tensor:
        """Nothing: there is no witness to compare with."""
        return images.new_zeros(())

    def estimates(self) -> Tensor:
        """Give what physics says, light carried by events and slowly forgotten: [b, (W - `BEGINNING`) K, 1, H, W]."""
        before, planes = self._gray(), []
        for events in self.events:
            planes.append(carried(before, events.change))
            before = torch.lerp(self._gray(), planes[-1][:, -1], 1 - FORGOTTEN)
        return torch.cat(planes[BEGINNING:], 1)[:, :, None]

    @property
    def frames(self) -> Tensor:
        """There are none: what the stream begins with, [b, 1, H, W]."""
        return self._gray()[:, None]

    @property
    def middle_change(self) -> Tensor:
        """Sum of the events of the window in the middle, log units: [b, H, W]."""
        return self.events[len(self.events) // 2].change.sum(1)

    def _gray(self) -> Tensor:
        return torch.full_like(self.target[:, 0, 0], GRAY)


def cut_into_windows(bins: int, windows: int) -> Cut:
    """Cut streams of W windows of K bins, and ask for the end of each bin."""
    count = bins * windows
    return Cut(count, count + 1, partial(make_recurrent_sample, bins=bins, windows=windows), windows=windows)


def make_recurrent_sample(
    window: Window, positive: Tensor, negative: Tensor, *, bins: int, windows: int, task: str, index: int
) -> RecurrentSample:
    """Turn streams into windows of events.

    Args:
        window: b streams of T steps, T a multiple of K W; its last K W + 1 shutters are the ends of bins.
        positive, negative: float32 [b], believed thresholds.
        bins: K.
        windows: W, more than `BEGINNING`.
        task, index: kept in the sample.
    """
    told_of = changes(window.counts, positive, negative, window.observed, ramp_share=RAMP_SHARE / windows)
    steps = window.counts.shape[1] // (bins * windows)
    change = told_of.log_gain[:, ::steps].diff(dim=1)
    number = told_of.count[:, ::steps].diff(dim=1).clamp_min(0).log1p_()
    numbers = told(positive, negative, window.window_us / windows)
    pairs = list(zip(change.split(bins, 1), number.split(bins, 1), strict=True))
    targets = list(window.target[:, -bins * windows :].sqrt()[:, :, None].split(bins, 1))
    rng = np.random.default_rng([index, 64])
    if rng.random() < PAUSED_SHARE:
        at, length = int(rng.integers(1, windows)), int(rng.integers(1, LONGEST_PAUSE + 1))
        for _ in range(min(length, windows - at)):
            pairs.insert(at, _pause(change[:, :bins], positive, negative, rng))
            targets.insert(at, targets[at - 1][:, -1:].expand_as(targets[at - 1]))
    events = tuple(Events(*pair, numbers) for pair in pairs[:windows])
    return RecurrentSample(events, torch.cat(targets[BEGINNING:windows], 1), task, index)


def _pause(like: Tensor, positive: Tensor, negative: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Make the change and the number of events, [b, K, H, W], of a window in which all stands still: noise."""
    fewest, most = (float(np.log(rate)) for rate in _NOISE_EVENTS)
    rate = np.exp(rng.uniform(fewest, most, like.shape[0]))[:, None, None, None]
    fires = torch.from_numpy((rng.random(like.shape) < rate).astype(np.float32)).to(like.device)
    up = torch.from_numpy(rng.random(like.shape) < 0.5).to(like.device)
    jump = torch.where(up, positive[:, None, None, None], -negative[:, None, None, None])
    return fires * jump, fires.log1p()
