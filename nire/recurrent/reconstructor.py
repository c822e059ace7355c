"""The remembered content at work: events carry light on, the network says what to believe, physics answers shutters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.backends import device_errors
from nire.engines import Job
from nire.errors import ConfigError
from nire.explicit.content import KeyPlanes, states_at
from nire.integral.double_integral import DARK_LEVEL
from nire.integral.exposing import Exposing
from nire.integral.gain import Gain
from nire.recurrent.config import RecurrentConfig
from nire.recurrent.engines import Runner, Told
from nire.recurrent.network import GRAY, told
from nire.shutter import Shutter
from nire.types import Content, ContentWindow, Geometry

FORGOTTEN_US = 600_000
"""After so long without a window what was known is forgotten."""
MISSED_US = 25_000
"""Gaps that reach into a window may be so long together for what was known to be kept: a little is wrong, and heals."""
# What a pixel's light may be at most when it is carried beyond a window, in levels.
_BRIGHTEST = 10 * 255.0


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What a window ended with.

    Attributes:
        root: float32 [height, width] as padded, square root of light.
        mind: what the network keeps in mind.
        t_us: frame time of both.
        epoch: life of the device clock.
    """

    root: Tensor
    mind: tuple[Tensor, ...]
    t_us: float
    epoch: int

    def leads_to(self, window: ContentWindow, span_us: tuple[float, float]) -> bool:
        """Tell whether a window goes on from here: little is lost between, and the clock goes on.

        Time that no window was built of counts up to `FORGOTTEN_US`: what stood still since is as it was.
        """
        first_us, last_us = self.t_us, span_us[1]
        is_near = window.events.epoch == self.epoch and span_us[0] - FORGOTTEN_US <= first_us < last_us
        offset_us = window.calibration.time_offset_us
        reaching = [g for g in window.gaps if g.t0_us < last_us + offset_us and g.t1_us > first_us + offset_us]
        return is_near and sum(gap.t1_us - gap.t0_us for gap in reaching) <= MISSED_US


class RecurrentReconstructor(Exposing):
    """Images from events alone. Each window goes on from what the one before it ended with.

    Events tell how light changed, never how bright it was: what has not moved since the stream began is gray, and the
    brightness of large surfaces is guessed. Images are "srgb".
    """

    name = "events_only"
    needs_frames = False
    rolls = True

    def __init__(self, geometry: Geometry, runner: Runner, config: RecurrentConfig, *, job: Job, bin_us: int) -> None:
        """Put a trained network to work for one sensor.

        Args:
            geometry: of the sensor.
            runner: the network, as it is run; nobody else's.
            config: of the network.
            job: that it was made for.
            bin_us: width of the event bins.
        """
        super().__init__(geometry, job.device)
        self.engine = runner.name
        self._runner, self._config = runner, config
        self._padded = job.height, job.width
        self._gain = Gain(bin_us, job.device)
        self._planes: KeyPlanes | None = None
        self._known: _Known | None = None
        # What windows that may be built again went on from.
        self._befores: WeakKeyDictionary[ContentWindow, _Known | None] = WeakKeyDictionary()

    def build(self, window: ContentWindow) -> Content:
        """Go on by a window without frames.

        Raises:
            ConfigError: the window has frames, which would be ignored.
            DeviceMemoryFull: it does not fit into the GPU's memory.
            AcceleratorLost: the GPU failed for good.
        """
        if window.frames:
            raise ConfigError(
                f"reconstructor.backend = 'events_only' takes windows without frames, this one has "
                f"{len(window.frames)}. Use window.policy = 'auto', or reconstructor.backend = 'neural'"
            )
        self._current = None
        is_new = window not in self._befores
        before = self._befores.setdefault(window, self._known)
        with device_errors("build a window"), torch.no_grad():
            known = self._built(window, before)
        # Who looks back does not change what comes next.
        self._known = known if is_new else self._known
        self._current = window
        return window

    def _built(self, window: ContentWindow, before: _Known | None) -> _Known:
        begin_us, end_us = span_us = _span_of(window)
        if before is not None and not before.leads_to(window, span_us):
            before = None
        if before is not None:
            begin_us = max(begin_us, before.t_us)
        self._gain.build(window)
        times_us = np.linspace(begin_us, end_us, self._config.bins + 1)
        first_us, last_us = _covered(window, begin_us, end_us)
        states = states_at(self._gain, np.array([first_us, *times_us, last_us]))
        root, mind = (torch.full(self._padded, GRAY, device=self._device), ()) if before is None else (
            before.root, before.mind
        )  # fmt: skip
        root = _healed(root, window.calibration.hot_pixels)
        gains, counts = self._told_at_ends(states, begin_us, end_us)
        if torch.equal(counts[0], counts[-1]):
            # Nothing happened, so nothing changed: not what is seen either.
            roots, kept = root.expand(self._config.bins, -1, -1), mind
        else:
            roots, kept = self._runner(root, Told(gains, counts, self._told(window, end_us - begin_us)), mind)
        height, width = self._geometry.height, self._geometry.width
        light = torch.cat([root[None], roots])[:, :height, :width].square().mul_(255)
        self._planes = KeyPlanes(
            self._gain, np.array([first_us, *times_us, last_us]), self._beyond(light, states[0]), states
        )
        return _Known(roots[-1].clone(), kept, end_us, window.events.epoch)

    def _told_at_ends(self, states: tuple[Tensor, Tensor], begin_us: float, end_us: float) -> tuple[Tensor, Tensor]:
        """Give gain and count at the bounds of the bins, at both ends without ramps.

        A ramp towards an event of the next window is not known in this one: so each event counts whole in one of them.
        """
        gains, counts = (state[1:-1].clone() for state in states)
        for place, t_us in ((0, begin_us), (-1, end_us)):
            just_before = np.array([t_us - 0.5])
            gains[place], counts[place] = self._gain.span(just_before, just_before)[0]
        return gains, counts

    def _told(self, window: ContentWindow, length_us: float) -> Tensor:
        calibration = window.calibration
        numbers = calibration.threshold_positive, calibration.threshold_negative, max(length_us, 1.0)
        return told(*(torch.tensor([number], device=self._device) for number in numbers))

    def _beyond(self, light: Tensor, gains: Tensor) -> Tensor:
        """Add what shutters reach before the first and after the last plane, carried by events: [K + 3, C, H, W]."""
        ends = [
            ((light[own] + DARK_LEVEL) * (gains[far] / gains[near]) - DARK_LEVEL).clamp_(0, _BRIGHTEST)
            for own, far, near in ((0, 0, 1), (-1, -1, -2))
        ]
        planes = torch.cat([ends[0][None], light, ends[1][None]])
        return planes[:, None].expand(-1, self._geometry.channels, -1, -1)

    def light_at(self, shutter: Shutter) -> Tensor:
        """Expose one shutter, as `Exposing.light_at`."""
        assert self._planes is not None
        return self._planes.expose(shutter)

    def show(self, shutters: Sequence[Shutter], images: Tensor, encoding: NDArray[np.uint8]) -> bool:
        """Expose shutters as images at once, as `Exposing.show`."""
        assert self._planes is not None
        return self._planes.show(shutters, images, encoding)


def _healed(root: Tensor, hot: NDArray[np.bool_] | None) -> Tensor:
    """Give pixels whose events are ignored what is around them: what they were told before is wrong for good."""
    if hot is None:
        return root
    around = torch.from_numpy(cv2.medianBlur(root.cpu().numpy(), 3)).to(root.device)
    healed = root.clone()
    mask = torch.from_numpy(hot).to(root.device)
    height, width = hot.shape
    healed[:height, :width][mask] = around[:height, :width][mask]
    return healed


def _span_of(window: ContentWindow) -> tuple[float, float]:
    """Give the time that a window adds, frame time: what it answers, as far as there are events."""
    offset_us = window.calibration.time_offset_us
    first_us, last_us = window.answers_us
    return max(first_us, window.t0_us - offset_us), min(last_us, window.t1_us - offset_us)


def _covered(window: ContentWindow, begin_us: float, end_us: float) -> tuple[float, float]:
    """Give the first and the last moment that a shutter may touch, a little beyond the planes."""
    offset_us = window.calibration.time_offset_us
    first_us, last_us = (
        max(window.covered_us[0], window.t0_us - offset_us),
        min(window.covered_us[1], window.t1_us - offset_us),
    )
    return min(first_us, begin_us - 1), max(last_us, end_us + 1)
