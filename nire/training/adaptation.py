"""A network of the explicit content goes on learning from one camera's own frames: no truth is needed.

What a frame shows that the network was not given is its lesson: exposed by that frame's shutter from the frames beside
it, the content must be that frame. Its noise is its own, so that the mean of many lessons is without noise (Lehtinen et
al., "Noise2Noise", 2018). Only the last layers learn, which is enough for a sensor's noise and hard to spoil.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.explicit.config import ExplicitConfig
from nire.explicit.content import plane_shares
from nire.explicit.evidence import called_up
from nire.explicit.network import Inputs, KeyPlaneNetwork
from nire.explicit.witnesses import Witnesses, encoded
from nire.integral.double_integral import DARK_LEVEL, DoubleIntegral
from nire.light import decode_table
from nire.training.losses import charbonnier, gradient
from nire.types import ContentWindow, Frame

CROP_PX = 96
"""Of a lesson, at most."""
LAST_LAYERS = ("guide", "enter", "enter_rows", "enter_guide", "enter_stem", "middle", "leave")
"""What learns."""
_BATCH = 4
_RATE, _KEPT = 3e-4, 0.98
# Iterations from one look at the lessons that are kept apart to the next, and such looks without gain until the end.
_LOOK_EVERY, _PATIENCE = 25, 6
# A square root of light below which its slope is too steep to learn from.
_LEAST_LIGHT = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What the network takes of a part of a window, and a frame that it was not given.

    Attributes:
        inputs: of one window.
        shares: float32 [K + 1, H, W], of each plane in that frame's exposure (`plane_shares`).
        target: float32 [H, W], that frame, square roots of linear light.
    """

    inputs: Inputs
    shares: Tensor
    target: Tensor


class Teacher:
    """Makes lessons of a sensor's windows."""

    def __init__(self, config: ExplicitConfig, height: int, width: int, *, bin_us: int, seed: int = 0) -> None:
        """Prepare for one network and one sensor.

        Args:
            config: of the network.
            height, width: of the sensor.
            bin_us: of the event planes.
            seed: of the choice of parts.
        """
        self._integral = DoubleIntegral(bin_us)
        self._padded = config.padded(height, width)
        self._witnesses = Witnesses(config, self._padded, torch.device("cpu"))
        self._rng = np.random.default_rng(seed)
        step = 2 ** len(config.channels)
        self._size = (min(CROP_PX, height // step * step), min(CROP_PX, width // step * step))

    @torch.no_grad()
    def lessons(self, window: ContentWindow, frame: Frame, *, count: int) -> list[Lesson]:
        """Cut lessons out of a window, where most events are and anywhere.

        Args:
            window: two frames.
            frame: between them, not in the window.
            count: of them.
        """
        light = [_light(given) for given in window.frames]
        self._integral.build(window, light)
        times_us = self._witnesses.times_us(window)
        evidence = self._witnesses.of(self._integral, window, light)
        inputs = called_up(evidence, self._padded)
        shares = plane_shares(self._integral.gain, times_us, frame.shutter, (evidence.gains, evidence.counts))
        target = encoded(_light(frame))
        whole = Lesson(inputs, shares, target)
        return [self._part(whole, window, lively=k % 2 == 0) for k in range(count)]

    def _part(self, whole: Lesson, window: ContentWindow, *, lively: bool) -> Lesson:
        height, width = self._size
        events = window.events
        centre = tuple(int(self._rng.integers(length)) for length in whole.target.shape)
        if lively and len(events):
            chosen = int(self._rng.integers(len(events)))
            centre = int(events.y[chosen]), int(events.x[chosen])
        top, left = (
            int(np.clip(at - size // 2, 0, length - size)) // 2 * 2
            for at, size, length in zip(centre, self._size, whole.target.shape, strict=True)
        )
        rows, columns = slice(top, top + height), slice(left, left + width)
        inputs = whole.inputs
        images = ("witnesses", "trust", "change", "number", "frames")
        cut = {name: getattr(inputs, name)[..., rows, columns].clone() for name in images}
        return Lesson(
            inputs._replace(**cut, exposures=inputs.exposures[:, :, rows].clone()),
            whole.shares[..., rows, columns].clone(),
            whole.target[rows, columns].clone(),
        )


def adapt(
    network: KeyPlaneNetwork,
    lessons: Sequence[Lesson],
    apart: Sequence[Lesson],
    *,
    minutes: float,
    iterations: int,
    progress: Callable[[float, float], None] = lambda done, total: None,
    seed: int = 0,
) -> KeyPlaneNetwork:
    """Let the last layers learn, as long as lessons that are kept apart gain by it.

    Args:
        network: stays as it is.
        lessons: to learn from, at least one.
        apart: that tell when to stop, at least one; other moments than `lessons`.
        minutes: most time to spend.
        iterations: most of them.
        progress: told how much of the time, or of the iterations, is spent, and 1.
        seed: of the order of lessons.

    Returns:
        The network of the look at `apart` that was best; where none was better, as it came.
    """
    learning = copy.deepcopy(network).train()
    for name, value in learning.layers.named_parameters():
        value.requires_grad_(name.split(".")[0] in LAST_LAYERS)
    mine = [value for value in learning.parameters() if value.requires_grad]
    optimiser = torch.optim.Adam(mine, lr=_RATE)
    average = copy.deepcopy(learning).eval()
    best, least = copy.deepcopy(network), _error(network, apart)
    rng = np.random.default_rng(seed)
    began, iteration, since_best = time.monotonic(), 0, 0
    while since_best < _PATIENCE:
        spent = max((time.monotonic() - began) / (60 * minutes), iteration / iterations)
        progress(min(spent, 1.0), 1.0)
        if spent >= 1:
            break
        # Down to a tenth as time goes by, so that what was learned settles.
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (0.55 + 0.45 * math.cos(math.pi * spent))
        batch = [lessons[int(k)] for k in rng.integers(len(lessons), size=_BATCH)]
        optimiser.zero_grad(set_to_none=True)
        _loss(learning, batch).backward()
        torch.nn.utils.clip_grad_norm_(mine, 1.0)
        optimiser.step()
        iteration += 1
        with torch.no_grad():
            kept = min(_KEPT, iteration / (iteration + 10))
            for slow, fast in zip(average.parameters(), learning.parameters(), strict=True):
                slow.lerp_(fast, 1 - kept)
        if iteration % _LOOK_EVERY == 0:
            error, since_best = _error(average, apart), since_best + 1
            if error < least:
                best, least, since_best = copy.deepcopy(average), error, 0
    return best.eval()


@torch.no_grad()
def _error(network: KeyPlaneNetwork, lessons: Sequence[Lesson]) -> float:
    return float(np.mean([_loss(network, [lesson]).item() for lesson in lessons]))


def _loss(network: KeyPlaneNetwork, batch: Sequence[Lesson]) -> Tensor:
    inputs = (torch.cat(values) for values in zip(*(lesson.inputs for lesson in batch), strict=True))
    planes = network(*inputs).clamp_min(0).square().mul(255) + DARK_LEVEL
    light = (planes * torch.stack([lesson.shares for lesson in batch])).sum(1) - DARK_LEVEL
    images = light.div(255).clamp_min(_LEAST_LIGHT).sqrt()[:, None]
    targets = torch.stack([lesson.target for lesson in batch])[:, None]
    return charbonnier(images, targets) + 0.5 * gradient(images, targets)


def _light(frame: Frame) -> Tensor:
    """Linear light of a frame: float32 [C, H, W], levels."""
    light: NDArray[np.float32] = decode_table(frame.transfer)[frame.pixels]
    return torch.from_numpy(light).permute(2, 0, 1).contiguous()
