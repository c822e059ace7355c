"""Who tells of a window: its frames, carried by events and moved along flow, and what the window before ended with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.explicit.config import ExplicitConfig
from nire.explicit.content import states_at
from nire.explicit.evidence import Evidence
from nire.explicit.limits import NOISE_TOLD
from nire.explicit.network import CARRIED
from nire.explicit.rolled import MOST_AGE, Past
from nire.flow import Motion, search_between
from nire.integral.double_integral import DARK_LEVEL, DoubleIntegral
from nire.light import BRIGHTEST
from nire.network.ranges import image_ranges, span_of
from nire.threads import begin, side_by_side
from nire.types import ContentWindow
from nire.voxels import observed_bins

LEAST_SHARE = 2e-3
"""Share of time that a frame keeps where the other one leaves it none: little, but the network may ask for it."""
# The median size of what two images differ by, and of second differences of second ones, where the noise of a pixel
# is 1: 0.67 times the root of the sum of squares of what it is multiplied by.
_OF_DIFFERENCES, _OF_SECOND_DIFFERENCES = np.float32(0.6745 * 2**0.5), np.float32(0.6745 * 6)


class Witnesses:
    """Finds the evidence of window after window."""

    def __init__(
        self, config: ExplicitConfig, padded: tuple[int, int], device: torch.device, *, threads: int = 1
    ) -> None:
        """Prepare for one network and one padded size, height and width; threads share what is moved along flow."""
        self._config = config
        self._padded = padded
        self._device = device
        self._threads = threads

    def times_us(self, window: ContentWindow) -> NDArray[np.float64]:
        """Give the key times of a window: float64 [K + 1], frame time."""
        return np.linspace(*span_of(window), self._config.planes)

    def of(
        self,
        integral: DoubleIntegral,
        window: ContentWindow,
        light: Sequence[Tensor],
        before: Callable[[], Past | None] = lambda: None,
    ) -> Evidence:
        """Find what the witnesses go back to.

        Args:
            integral: that was built from the window.
            window: one or two frames.
            light: of the frames, float32 [C, H, W], linear levels.
            before: gives what the window goes on from, None where it begins anew; asked last, because it may have to
                wait for it.
        """
        times_us = self.times_us(window)
        height, count = window.geometry.height, len(window.frames)
        # Neither what moves nor how noisy frames are is asked for before the end: other threads find out meanwhile.
        moved_at = self._search(integral, window)
        frames = torch.stack([encoded(light[min(n, count - 1)]) for n in range(2)])
        noise_of = begin(noise_levels, [frames[None, :count]], self._threads)
        states = states_at(integral.gain, times_us)
        constants = [_luma(anchor.constant) for anchor in integral.anchors]
        opened, closed = ([getattr(anchor, name) for anchor in integral.anchors] for name in ("opened", "closed"))
        shares = np.zeros((len(times_us), len(CARRIED), height), np.float32)
        for k, t_us in enumerate(times_us):
            of_frames = integral.shares(np.full(height, t_us), least=LEAST_SHARE)
            shares[k, :count] = np.stack([np.broadcast_to(share, height) for share in of_frames])
        exposures = image_ranges(window, self._padded)[[0, -1]]
        edges_us = np.rint(times_us + window.calibration.time_offset_us).astype(np.int64)
        moved, noise = moved_at(times_us), noise_of()[0][0]
        past = before()
        if past is not None:
            gain, number = integral.gain.at(np.array([past.t_us]), shared=True)
            constants.append((past.light + DARK_LEVEL) / gain)
            opened.append(number)
            closed.append(number)
            shares[:, -1] = 1
        for values in (constants, opened, closed):
            values += [values[0]] * (len(CARRIED) - len(values))
        return Evidence(
            torch.stack(constants),
            torch.stack(opened),
            torch.stack(closed),
            self._tensor(shares),
            *states,
            *moved,
            frames,
            self._tensor(exposures),
            self._tensor(observed_bins(window.gaps, edges_us)),
            self._told(window, noise, 0 if past is None else past.age),
        )

    def _search(
        self, integral: DoubleIntegral, window: ContentWindow
    ) -> Callable[[NDArray[np.float64]], tuple[Tensor, Tensor]]:
        """Begin to search the flow between the frames, deblurred at their middles; one alone stays where it is.

        Returns:
            What waits for the flow, and moves the frames along it to key times: `Evidence.moved`, `moved_shares`.
        """
        deblurred, when_us = [], []
        for frame, anchor in zip(window.frames, integral.anchors, strict=True):
            middle_us = (frame.shutter.t_a_us + frame.shutter.t_b_us) / 2
            deblurred.append(encoded(anchor.constant * integral.gain.at(middle_us)[0] - DARK_LEVEL))
            when_us.append(float(middle_us.mean()))
        if len(deblurred) == 1:
            return lambda times_us: (
                deblurred[0].expand(len(times_us), 2, -1, -1), torch.zeros((len(times_us), 2), device=self._device)
            )  # fmt: skip
        motion = search_between(*(image.cpu().numpy() for image in deblurred), threads=self._threads)
        return lambda times_us: self._moved(motion(), (times_us - when_us[0]) / max(when_us[1] - when_us[0], 1.0))

    def _moved(self, motion: Motion, gone: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Move both frames to times [K + 1]: 0 is the middle of the first one's exposure, 1 of the second's."""
        shares = np.clip(np.stack([1 - gone, gone], 1), LEAST_SHARE, 1)
        moved = np.empty((len(gone), 2, *motion.first.shape), np.float32)

        def move(k: int) -> None:
            moved[k] = motion.at(gone[k])

        side_by_side(move, range(len(gone)), self._threads)
        return self._tensor(moved), self._tensor(shares)

    def _told(self, window: ContentWindow, noise: Tensor, age: int) -> Tensor:
        calibration = window.calibration
        numbers = [*noise.tolist(), calibration.threshold_positive, calibration.threshold_negative]
        length_us, ages = torch.tensor([float(window.t1_us - window.t0_us)]), torch.tensor([float(age)])
        return scaled(torch.tensor([numbers]), length_us, ages)[0].to(self._device)

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32, copy=False)).to(self._device)


def _luma(light: Tensor) -> Tensor:
    return light[0] if light.shape[0] == 1 else light.mean(0)


def encoded(light: Tensor) -> Tensor:
    """Square root of linear-light luma, up to a little above white: [C, H, W] levels -> [H, W]."""
    return _luma(light).div(255).clamp_(0, BRIGHTEST**2).sqrt_()


def scaled(numbers: Tensor, window_us: Tensor, age: Tensor) -> Tensor:
    """Scale what the network is told of a window to be around 1.

    Args:
        numbers: float32 [b, 4], `noise_levels`, thresholds.
        window_us: float32 [b].
        age: float32 [b], windows that the rolled witness goes back, 0 = there is none.

    Returns:
        float32 [b, 6].
    """
    length, back = (window_us / 40_000).log()[:, None], age.clamp(max=MOST_AGE).log1p()[:, None]
    return torch.cat([numbers[:, :2] * NOISE_TOLD, numbers[:, 2:] * 4, length, back], 1)


def noise_levels(frames: Tensor) -> Tensor:
    """Estimate by how much pixels differ from their neighbours' light, and by how much from their own in another frame.

    Where pixels have each a gain of their own the first is more than the second: that pattern is of the camera, as the
    frames show it, and not to be taken for noise. Where most of an image moves, only the first can be told.

    Args:
        frames: float32 [b, 1 or 2, H, W], square roots of light.

    Returns:
        float32 [b, 2], standard deviations; the second is never more than the first.
    """
    images = frames.cpu().numpy()
    within = np.stack([noise_level(images[:, n]) for n in range(images.shape[1])]).mean(0)
    apart = within
    if images.shape[1] == 2:
        apart = np.minimum(_medians((images[:, 1] - images[:, 0]).reshape(len(images), -1)) / _OF_DIFFERENCES, within)
    return torch.from_numpy(np.stack([within, apart], 1)).to(frames.device)


def noise_level(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Estimate the standard deviation of noise in images [b, H, W]: [b] (Immerkaer, 1996, by a median).

    What a difference of second differences leaves of an image is noise, but at edges; the median is not moved by them.
    By numpy, which serves threads beside the one that asks; torch would have each of them keep threads of its own.
    """
    for _ in range(2):
        images = np.diff(images, n=2, axis=-1).swapaxes(-1, -2)
    return _medians(images.reshape(len(images), -1)) / _OF_SECOND_DIFFERENCES


def _medians(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the median size of each row of [b, n]."""
    sizes = np.abs(values)
    middle = (sizes.shape[1] - 1) // 2
    medians: NDArray[np.float32] = np.partition(sizes, middle, axis=1)[:, middle].copy()
    return medians
