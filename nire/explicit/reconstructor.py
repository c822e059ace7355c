"""The explicit content at work: witnesses, one call of the network a window, and any number of shutters by physics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.engines import Job
from nire.explicit.config import ExplicitConfig
from nire.explicit.content import KeyPlanes
from nire.explicit.engines import Cleaner
from nire.explicit.witnesses import MOST_AGE, Past, Witnesses
from nire.integral.double_integral import DARK_LEVEL
from nire.integral.reconstructor import IntegralReconstructor
from nire.shutter import Shutter, Times
from nire.types import ContentWindow, Geometry


class ExplicitReconstructor(IntegralReconstructor):
    """Begins as the double integral does; its images come from key planes that the network has cleaned.

    The content rolls: a window of two frames goes on from the one before it, if that was built too.
    """

    name = "neural"
    rolls = True
    mixes_pixels = True

    def __init__(
        self,
        geometry: Geometry,
        cleaner: Cleaner,
        config: ExplicitConfig,
        *,
        job: Job,
        bin_us: int,
        threads: int = 1,
    ) -> None:
        """Put a trained network to work for one sensor.

        Args:
            geometry: of the sensor.
            cleaner: the network, as it is run.
            config: of the network.
            job: that it was made for.
            bin_us: width of the event bins.
            threads: of the CPU, that share what is done by several.
        """
        super().__init__(geometry, job.device, bin_us)
        self.engine = cleaner.name
        self._cleaner = cleaner
        self._witnesses = Witnesses(config, (job.height, job.width), job.device, threads=threads)
        self._planes: KeyPlanes | None = None
        # What each window goes on from, so that one that is built again gives the same images. The next one goes on
        # from the newest end, or, where it has the same frames as the newest one, from what that went on from.
        self._pasts: WeakKeyDictionary[ContentWindow, Past | None] = WeakKeyDictionary()
        self._ends: tuple[Past | None, Past | None] = (None, None)
        self._another = partial(
            ExplicitReconstructor, geometry, cleaner, config, job=job, bin_us=bin_us, threads=threads
        )

    def sibling(self) -> ExplicitReconstructor:
        """Make another one for the same sensor, by the same network: what that gives is used up within a build."""
        return self._another()

    def _built(self, window: ContentWindow, light: Sequence[Tensor]) -> None:
        times_us = self._witnesses.times_us(window)
        again = window in self._pasts
        past = self._past_of(window)
        evidence = self._witnesses.of(self._integral, window, light, past)
        roots = self._cleaner(evidence)
        luma = roots.clamp_min_(0).square_().mul_(255)[:, None]
        if len(window.frames) == 2 and not again:
            age = 1 if past is None else min(past.age + 1, MOST_AGE)
            self._ends = (Past(luma[-1, 0].clone(), float(times_us[-1]), window.frames[1], age), past)
        states = evidence.gains, evidence.counts
        self._planes = KeyPlanes(self._integral.gain, times_us, self._in_all_channels(luma, times_us), states)

    def _past_of(self, window: ContentWindow) -> Past | None:
        """Find what a window goes on from: the same every time that it is built."""
        if window not in self._pasts:
            leading = (past for past in self._ends if past is not None and past.leads_to(window))
            self._pasts[window] = next(leading, None)
        return self._pasts[window]

    def _in_all_channels(self, luma: Tensor, times_us: Times) -> Tensor:
        """Give planes [K + 1, 1, H, W] the colours of the double integral: events carry none."""
        if self._light.shape[0] == 1:
            return luma
        instants = [Shutter.instant(float(t_us), self._geometry.height) for t_us in times_us]
        colours = torch.stack([self._integral.expose(instant) for instant in instants]).add_(DARK_LEVEL)
        return (colours * ((luma + DARK_LEVEL) / colours.mean(1, keepdim=True)) - DARK_LEVEL).clamp_min_(0)

    def light_at(self, shutter: Shutter) -> Tensor:
        """Expose one shutter, as `IntegralReconstructor.light_at`."""
        assert self._planes is not None
        return self._planes.expose(shutter, out=self._light)

    def show(self, shutters: Sequence[Shutter], images: Tensor, encoding: NDArray[np.uint8]) -> bool:
        """Expose shutters as images at once, as `IntegralReconstructor.show`."""
        assert self._planes is not None
        return self._planes.show(shutters, images, encoding)
