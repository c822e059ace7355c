"""What the network of the explicit content takes of a window: frames carried by events and moved along flow.

`nire.training.explicit` does the same for batches of binned events; what the network has learned there holds here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nire.explicit.config import ExplicitConfig
from nire.explicit.network import BY_FLOW, CUT, ROLLED, WITNESSES, Inputs
from nire.flow import motion_between
from nire.integral.double_integral import DARK_LEVEL, FRAME_NOISE_EVENTS, LEAST_HEARD, DoubleIntegral
from nire.light import BRIGHTEST
from nire.network.ranges import image_ranges, span_of
from nire.shutter import Shutter
from nire.types import ContentWindow, Frame
from nire.voxels import observed_bins

MOST_AGE = 16
"""Windows that a rolled witness goes back, as far as the network is told."""
LEAST_SHARE = 2e-3
"""Share of time that a frame keeps where the other one leaves it none: little, but the network may ask for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What a window ended with: the rolling content, as far as the next window needs it.

    Attributes:
        light: float32 [H, W], luma of its last plane, linear levels.
        t_us: frame time of that plane.
        frame: the window's last one, with which the next window begins.
        age: windows that it goes back, 1 or more.
    """

    light: Tensor
    t_us: float
    frame: Frame
    age: int

    def leads_to(self, window: ContentWindow) -> bool:
        """Tell whether a window goes on from here: nothing is missing between, and the clock is the same."""
        return len(window.frames) == 2 and window.frames[0] is self.frame and not window.gaps


class Witnesses:
    """Makes what the network takes, window by window; what it gives is valid until the next one."""

    def __init__(self, config: ExplicitConfig, padded: tuple[int, int], device: torch.device) -> None:
        """Prepare for one network and one padded size, height and width."""
        self._config = config
        self._padded = padded
        self._device = device

    def times_us(self, window: ContentWindow) -> NDArray[np.float64]:
        """Give the key times of a window: float64 [K + 1], frame time."""
        return np.linspace(*span_of(window), self._config.planes)

    def of(
        self,
        integral: DoubleIntegral,
        window: ContentWindow,
        light: Sequence[Tensor],
        states: tuple[Tensor, Tensor],
        past: Past | None = None,
    ) -> Inputs:
        """Question the witnesses.

        Args:
            integral: that was built from the window.
            window: one or two frames.
            light: of the frames, float32 [C, H, W], linear levels.
            states: of `states_at` the key times.
            past: that leads to the window; None = there is none.

        Returns:
            What the network takes, padded by the last row and column.
        """
        times_us = self.times_us(window)
        height, width = window.geometry.height, window.geometry.width
        count, planes = len(window.frames), self._config.planes
        seen = torch.zeros((planes, WITNESSES, height, width), device=self._device)
        trust = torch.full((planes, WITNESSES, height, width), 2 * CUT, device=self._device)
        for k, t_us in enumerate(times_us):
            estimated, told = integral.estimates(Shutter.instant(t_us, height), least_share=LEAST_SHARE)
            for n in range(2):
                seen[k, n] = encoded(estimated[min(n, count - 1)])
            trust[k, :count] = told[:, 0]
        self._move(integral, window, times_us, seen[:, BY_FLOW], trust[:, BY_FLOW])
        gain, number = states
        seen[:, ROLLED] = seen[:, 0]
        if past is not None:
            self._roll(integral, past, states, seen[:, ROLLED], trust[:, ROLLED])
        frames = torch.stack([encoded(light[min(n, count - 1)]) for n in range(2)])
        exposures = torch.from_numpy(image_ranges(window, self._padded).astype(np.float32))
        exposures = exposures[[0, -1]].to(self._device)
        edges_us = np.rint(times_us + window.calibration.time_offset_us).astype(np.int64)
        observed = torch.from_numpy(observed_bins(window.gaps, edges_us).astype(np.float32)).to(self._device)
        return Inputs(
            self._wide(seen),
            self._wide(trust),
            self._wide(gain.log().diff(dim=0)),
            self._wide(number.diff(dim=0).clamp_min(0).log1p()),
            self._wide(frames),
            exposures[None],
            observed[None],
            self._told(window, frames, 0 if past is None else past.age),
        )

    def _roll(
        self, integral: DoubleIntegral, past: Past, states: tuple[Tensor, Tensor], seen: Tensor, trust: Tensor
    ) -> None:
        """Carry what the window before ended with to the key times, by events."""
        gain, number = integral.gain.at(np.array([past.t_us]), shared=True)
        carried = (past.light + DARK_LEVEL) * (states[0] / gain) - DARK_LEVEL
        for plane, light in zip(seen, carried, strict=True):
            plane.copy_(encoded(light[None]))
        torch.log(1 / ((states[1] - number).abs() + FRAME_NOISE_EVENTS), out=trust).clamp_(min=LEAST_HEARD)

    def _move(
        self,
        integral: DoubleIntegral,
        window: ContentWindow,
        times_us: NDArray[np.float64],
        seen: Tensor,
        trust: Tensor,
    ) -> None:
        """Move both frames, deblurred at their middles, along the flow between them; one alone stays where it is."""
        deblurred, when_us = [], []
        for n, frame in enumerate(window.frames):
            middle_us = (frame.shutter.t_a_us + frame.shutter.t_b_us) / 2
            middle = Shutter(middle_us, middle_us)
            deblurred.append(encoded(integral.estimates(middle)[0][n]))
            when_us.append(float(middle_us.mean()))
        if len(deblurred) == 1:
            seen[:] = deblurred[0]
            return
        motion = motion_between(*(image.cpu().numpy() for image in deblurred))
        for k, t_us in enumerate(times_us):
            share = (t_us - when_us[0]) / max(when_us[1] - when_us[0], 1.0)
            for n, image in enumerate(motion.at(share)):
                seen[k, n] = torch.from_numpy(image)
            shares = np.log(np.clip([1 - share, share], LEAST_SHARE, 1))
            trust[k] = torch.tensor(shares, dtype=torch.float32, device=self._device)[:, None, None]

    def _told(self, window: ContentWindow, frames: Tensor, age: int) -> Tensor:
        calibration = window.calibration
        numbers = [*noise_level(frames).tolist(), calibration.threshold_positive, calibration.threshold_negative]
        length_us, ages = torch.tensor([float(window.t1_us - window.t0_us)]), torch.tensor([float(age)])
        return scaled(torch.tensor([numbers]), length_us, ages).to(self._device)

    def _wide(self, planes: Tensor) -> Tensor:
        """Repeat the last row and column: [..., H, W] -> [1, ..., height, width]."""
        below, right = self._padded[0] - planes.shape[-2], self._padded[1] - planes.shape[-1]
        flat = functional.pad(planes.flatten(0, -3)[None], (0, right, 0, below), mode="replicate")
        return flat.view(1, *planes.shape[:-2], *self._padded)


def encoded(light: Tensor) -> Tensor:
    """Square root of linear-light luma, up to a little above white: [C, H, W] levels -> [H, W]."""
    luma = light[0] if light.shape[0] == 1 else light.mean(0)
    return luma.div(255).clamp_(0, BRIGHTEST**2).sqrt_()


def scaled(numbers: Tensor, window_us: Tensor, age: Tensor) -> Tensor:
    """Scale what the network is told of a window to be around 1.

    Args:
        numbers: float32 [b, 4], noise of both frames, thresholds.
        window_us: float32 [b].
        age: float32 [b], windows that the rolled witness goes back, 0 = there is none.

    Returns:
        float32 [b, 6].
    """
    length, back = (window_us / 40_000).log()[:, None], age.clamp(max=MOST_AGE).log1p()[:, None]
    return torch.cat([numbers[:, :2] * 50, numbers[:, 2:] * 4, length, back], 1)


def noise_level(images: Tensor) -> Tensor:
    """Estimate the standard deviation of noise in images [b, H, W]: [b] (Immerkaer, 1996, by a median).

    What a difference of second differences leaves of an image is noise, but at edges; the median is not moved by them.
    """
    mask = torch.tensor([1.0, -2.0, 1.0], device=images.device)
    left = functional.conv2d(images[:, None], (mask[:, None] * mask)[None, None]).abs().flatten(1)
    return left.median(1).values / (0.6745 * 6)
