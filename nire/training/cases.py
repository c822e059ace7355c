"""Cases of an evaluation: windows of one task as a sensor sees them, and what is right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.training.samples import Window, believed_thresholds, see
from nire.training.scenes import Scenes
from nire.training.sensor import draw_sensors
from nire.training.tasks import Shutters
from nire.types import Transfer

SEED = 20_240
"""Of everything random in every protocol."""
THRESHOLD_ERROR = 0.12
"""Standard deviation of the logarithm of the believed thresholds over the true ones."""
Rows = tuple[float, float, float]
"""First row's start and end, and the time from the first to the last row; in windows."""


@dataclass(frozen=True, slots=True)
class Task:
    """Frames and what is asked, as `Rows`.

    Attributes:
        name: as in tables.
        frames: one or two.
        asked: any number.
    """

    name: str
    frames: tuple[Rows, ...]
    asked: tuple[Rows, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Windows of one task, and what a calibration believes about their sensors.

    Attributes:
        task: its name.
        window: b windows.
        positive, negative: float32 [b], believed thresholds.
        colours: in RGB: frames and what is right, float32 [b, N, 3, H, W] and [b, Q, 3, H, W]; those of the window are
            then their means over colours.
        transfer: of stored frames, in which images are compared.
    """

    task: str
    window: Window
    positive: Tensor
    negative: Tensor
    colours: tuple[Tensor, Tensor] | None = None
    transfer: Transfer = "srgb"

    @property
    def frames(self) -> Tensor:
        """Captured frames in linear light: [b, N, H, W], in RGB [b, N, 3, H, W]."""
        return self.window.frames if self.colours is None else self.colours[0]

    @property
    def target(self) -> Tensor:
        """What is right, in linear light: [b, Q, H, W], in RGB [b, Q, 3, H, W]."""
        return self.window.target if self.colours is None else self.colours[1]

    def showing(self, frames: Tensor, target: Tensor) -> Case:
        """Make the case of other frames and another target: gray or in RGB, shaped as the properties."""
        is_gray = frames.ndim == 4
        planes = (frames, target) if is_gray else (frames.mean(2), target.mean(2))
        window = replace(self.window, frames=planes[0], target=planes[1])
        return replace(self, window=window, colours=None if is_gray else (frames, target))


def instants(*times: float) -> tuple[Rows, ...]:
    """Make shutters of all rows at once, of no length."""
    return tuple((t, t, 0.0) for t in times)


def seen(task: Task, scenes: Scenes, *, noise: str, seed: tuple[int, ...], frames: float, exact: bool = False) -> Case:
    """Let sensors see windows; every task sees the same sensors.

    `frames` is the unit of the task's times. They are of the clock that is off from that of the events and the light,
    or, if `exact`, of the light: then what is told is off.
    """
    batch, _, height, _ = scenes.light.shape
    rng = np.random.default_rng(seed)
    sensors = draw_sensors(rng, batch, noise)
    positive, negative = believed_thresholds(sensors, THRESHOLD_ERROR, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    shutters = Shutters(*(_rows(rows, height=height, batch=batch, unit=frames) for rows in (task.frames, task.asked)))
    if exact:
        told = (clock_offset(sensors.offset_us, scenes.window_us)).numpy()
        shutters = Shutters(shutters.frames - told, shutters.asked - told)
    observed = np.ones((batch, 1), np.float32)
    window = see(scenes, shutters, sensors, observed=observed, generator=generator)
    return Case(task.name, window, positive, negative)


def clock_offset(offset_us: Tensor, window_us: Tensor) -> Tensor:
    """Offset of the clocks in windows: [b, 1, 1, 1]."""
    return (offset_us / window_us)[:, None, None, None]


def _rows(shutters: tuple[Rows, ...], *, height: int, batch: int, unit: float) -> NDArray[np.float32]:
    times = np.array(shutters)[:, None, :] / unit
    row = np.arange(height)[None, :] / max(1, height - 1)
    each = np.stack([times[..., 0] + times[..., 2] * row, times[..., 1] + times[..., 2] * row], -1)
    return np.ascontiguousarray(np.broadcast_to(each, (batch, *each.shape)).astype(np.float32))
