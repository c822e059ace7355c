"""What the layers see of a window, and what follows from what they say, each in one pass over memory.

`called_up`, `folded` and `blended` are the definition, and tests compare. They write and read every witness at every
key time several times over; here each is called up where it is needed, two rows at a time, and only what the layers see
goes to memory: all channels of a pixel beside each other, in the precision that the engine computes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.explicit import folding_loops as loops
from nire.explicit.config import ExplicitConfig
from nire.explicit.evidence import Evidence, still_evidence
from nire.explicit.folding_limits import limits_of
from nire.explicit.limits import NOISE_TOLD
from nire.explicit.network import CUT, LEAST_LIGHT, MOST_SWAYED, PRIOR, SAID, SHUT, TOLD, WITNESSES, exposure_rows
from nire.integral.double_integral import DARK_LEVEL, FRAME_NOISE_EVENTS, LEAST_HEARD
from nire.light import BRIGHTEST
from nire.threads import bands, begin

_NUMBERS = np.array(
    [
        DARK_LEVEL,
        BRIGHTEST**2,
        FRAME_NOISE_EVENTS,
        math.exp(LEAST_HEARD),
        math.exp(CUT),
        math.exp(SHUT),
        MOST_SWAYED,
        LEAST_LIGHT,
    ],
    np.float32,
)
_PRIOR = np.exp(np.array(PRIOR, np.float32))
# Height and width of a window that loops are compiled by.
_FEW_PX = 16


class Folding:
    """The way of one network's windows into its layers and back, by the CPU."""

    def __init__(self, config: ExplicitConfig, padded: tuple[int, int], *, bf16: bool, threads: int = 1) -> None:
        """Make room.

        Args:
            config: of the network.
            padded: height and width that the layers work on.
            bf16: write maps as the bits of bfloat16, not as float32.
            threads: that share the rows.
        """
        self.another = partial(Folding, config, padded, bf16=bf16, threads=threads)
        """Makes one that may be used at the same time."""
        self._planes, bins = config.planes, config.bins
        height, width = padded[0] // 2, padded[1] // 2
        self._bands = bands(height, threads)
        kind = np.uint16 if bf16 else np.float32
        self.body: NDArray[Any] = np.zeros((1, height, width, _whole(9 * config.planes + 2 * bins + 8)), kind)
        self.body_rows = np.zeros((1, height, 1, bins + 4 + TOLD), np.float32)
        self.head: NDArray[Any] = np.zeros((config.planes, height, width, _whole(4 * WITNESSES + 7)), kind)
        self.head_rows = np.zeros((config.planes, height, 1, 4 + TOLD), np.float32)
        """The fields of `Folded`, with the channels last; those of maps are an even number, and one more is 0."""
        self._limits = np.empty(0, np.float32)
        self._written = [maps.view(np.uint32) if bf16 else maps for maps in (self.body[0], self.head)]

    def fold(self, evidence: Evidence) -> None:
        """Write what the layers see of a window."""
        exposures = exposure_rows(evidence.exposures[None])[0, ..., 0].numpy().T
        told = np.broadcast_to(evidence.told.numpy(), (len(exposures), TOLD))
        observed = np.broadcast_to(evidence.observed.numpy(), (len(exposures), len(evidence.observed)))
        self.body_rows[0, :, 0] = np.concatenate([observed, exposures, told], 1)
        for k, t in enumerate(np.linspace(0, 1, self._planes)):
            self.head_rows[k, :, 0] = np.concatenate([t - exposures, told], 1)
        given, frames = _arrays(evidence), evidence.frames.numpy()
        body, head = self._written
        folded = self._in_bands(lambda rows: loops.fold(body, head, given, frames, rows, _NUMBERS))
        # Nothing of this is shared among threads: it is done beside what is.
        self._limits = self._limits_of(evidence)
        folded()

    def blend(self, evidence: Evidence, said: NDArray[np.float32]) -> Tensor:
        """Follow what the layers say.

        Args:
            evidence: of the window that was folded last.
            said: float32 [K + 1, h, w, SAID], hyperbolic tangents of what `Layers` say, with the channels last.

        Returns:
            float32 [K + 1, H, W], planes, square roots of linear light.
        """
        planes = torch.empty_like(evidence.gains)
        out, given, limits = planes.numpy(), _arrays(evidence), self._limits
        self._in_bands(lambda rows: loops.blend(out, said, limits, given, rows, _NUMBERS, _PRIOR))()
        return planes

    def _limits_of(self, evidence: Evidence) -> NDArray[np.float32]:
        number = evidence.counts.diff(dim=0).clamp_min_(0).sum(0).numpy()
        _, height, width, _ = self.head.shape
        below, right = 2 * height - number.shape[0], 2 * width - number.shape[1]
        number, first, second = (
            cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
            for image in (number, *evidence.frames.numpy())
        )
        is_alone, is_whole = torch.equal(*evidence.exposures), bool((evidence.observed > 0).all())
        deviation = float(evidence.told[1]) / NOISE_TOLD
        return limits_of(number, (first, second), deviation, alone=is_alone, whole=is_whole)

    def _in_bands(self, work: Callable[[tuple[int, int]], None]) -> Callable[[], object]:
        return begin(work, self._bands, len(self._bands))


def compile_loops(config: ExplicitConfig, *, bf16: bool) -> None:
    """Have the loops compiled, or what was kept of them loaded, by a window of a few pixels.

    Args:
        config: of the network.
        bf16: as for `Folding`.
    """
    size = (_FEW_PX, _FEW_PX)
    folding = Folding(config, size, bf16=bf16)
    given = still_evidence(config, *size)
    folding.fold(given)
    folding.blend(given, np.zeros((config.planes, _FEW_PX // 2, _FEW_PX // 2, SAID), np.float32))


def _whole(channels: int) -> int:
    """Round up to what is written at once: two bfloat16."""
    return channels + channels % 2


def _arrays(evidence: Evidence) -> tuple[NDArray[np.float32], ...]:
    """Give what the loops read, in their order."""
    names = ("constants", "opened", "closed", "shares", "gains", "counts", "moved", "moved_shares")
    return tuple(getattr(evidence, name).contiguous().numpy() for name in names)
