"""The explicit content at work: witnesses, one call of the network a window, and any number of shutters by physics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.engines import Job
from nire.explicit.belief import belief_in
from nire.explicit.config import ExplicitConfig
from nire.explicit.content import KeyPlanes
from nire.explicit.engines import Cleaner
from nire.explicit.leaning import leaning_on_flow
from nire.explicit.rolled import Rolled
from nire.explicit.witnesses import Witnesses
from nire.integral.double_integral import DARK_LEVEL
from nire.integral.reconstructor import IntegralReconstructor
from nire.shutter import Shutter, Times
from nire.types import Content, ContentWindow, Geometry


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
        rolled: Rolled | None = None,
    ) -> None:
        """Put a trained network to work for one sensor.

        Args:
            geometry: of the sensor.
            cleaner: the network, as it is run; nobody else's.
            config: of the network.
            job: that it was made for.
            bin_us: width of the event bins.
            threads: of the CPU, that share what is done by several.
            rolled: says what windows go on from, where others build windows of the same stream; None = no one does.
        """
        super().__init__(geometry, job.device, bin_us)
        self.engine = cleaner.name
        self._cleaner = cleaner
        self._config, self._job, self._threads = config, job, threads
        self._witnesses = Witnesses(config, (job.height, job.width), job.device, threads=threads)
        self._planes: KeyPlanes | None = None
        self._rolled = rolled or Rolled()

    def sibling(self) -> ExplicitReconstructor:
        """Make another one for another stream of the same sensor; weights and graph are shared."""
        return self._another(Rolled())

    @property
    def works_beside(self) -> bool:
        """On a CPU; a GPU does one window after the other."""
        return self._job.device.type == "cpu"

    def beside(self) -> ExplicitReconstructor:
        """Make another one for other windows of the same stream, which goes on from what this one has built."""
        return self._another(self._rolled)

    def _another(self, rolled: Rolled) -> ExplicitReconstructor:
        cleaner, threads = self._cleaner.another(), self._threads
        return ExplicitReconstructor(
            self._geometry, cleaner, self._config, job=self._job, bin_us=self._bin_us, threads=threads, rolled=rolled
        )

    def expect(self, window: ContentWindow) -> None:
        """Fix what a window goes on from, before it is built: as `WorksBeside.expect`."""
        self._rolled.expect(window)

    def build(self, window: ContentWindow) -> Content:
        """Build the content of a window, as `IntegralReconstructor.build`."""
        with self._rolled.building(window):
            return super().build(window)

    def build_from(self, window: ContentWindow, light: Sequence[Tensor]) -> None:
        """Build a window whose frames' light is known, as `IntegralReconstructor.build_from`."""
        with self._rolled.building(window):
            super().build_from(window, light)

    def _built(self, window: ContentWindow, light: Sequence[Tensor]) -> None:
        times_us = self._witnesses.times_us(window)
        evidence = self._witnesses.of(self._integral, window, light, partial(self._rolled.before, window))
        roots = leaning_on_flow(self._cleaner(evidence), evidence, window.calibration.misfit)
        luma = roots.clamp_min_(0).square_().mul_(255)[:, None]
        self._rolled.built(window, luma[-1, 0].clone(), float(times_us[-1]))
        states = evidence.gains, evidence.counts
        belief = belief_in(luma[:, 0], evidence.gains)
        planes = self._in_all_channels(luma, times_us)
        self._planes = KeyPlanes(self._integral.gain, times_us, planes, states, belief)

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
