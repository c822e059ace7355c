"""Rendered high-speed scenes: things that move over a moving background, as linear light at the nodes of time.

Everything dense is done on the bank's device; only some numbers per window are drawn on the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nire.training.pictures import Bank

STEP_PX = 0.5
"""Motion of a step of the renderer stays under about this."""
# The longest and the shortest span of a window: cameras of 10 to 200 frames a second.
_WINDOW_US = (8_000.0, 120_000.0)
# Standard deviations of how pixels differ: shares of their light, and of what saturates a frame.
_GAINS, _DARK_SIGNALS = (0.003, 0.1), (0.0003, 0.006)


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """Windows of light.

    Attributes:
        light: float32 [b, T + 1, H, W], linear light at T + 1 nodes, equally spaced over the window and linear
            between them; with a margin of m at T + 2 m + 1. 1 saturates a frame, more is possible.
        window_us: float32 [b], how long the window lasts.
        dark: float32 [b, H, W], what frames show beside light and events know nothing of: the dark signal of pixels
            that differ; None where they do not.
        margin: steps before the window that light is known of, and as many after it.
    """

    light: Tensor
    window_us: Tensor
    dark: Tensor | None = None
    margin: int = 0

    @property
    def steps(self) -> int:
        """Number of steps T of the window."""
        return int(self.light.shape[1]) - 1 - 2 * self.margin

    @property
    def step_us(self) -> Tensor:
        """Time between two nodes: float32 [b]."""
        return self.window_us / self.steps

    def among_nodes(self, times: Tensor) -> Tensor:
        """Tell where times lie among all nodes, 0 at the first and 1 at the last; they are given in windows."""
        if not self.margin:
            return times
        return (times * self.steps + self.margin) / (self.steps + 2 * self.margin)


def render(
    bank: Bank,
    rng: np.random.Generator,
    *,
    batch: int,
    crop_px: int,
    steps: int,
    layers: int,
    travel_px: float | None = None,
    step_px: float = STEP_PX,
    still_share: float = 0.0,
    pattern_share: float = 0.0,
) -> Scenes:
    """Render windows.

    Args:
        bank: pictures to use.
        rng: chooses everything.
        batch: number of windows b.
        crop_px: height and width.
        steps: T.
        layers: moving things before the background; each window has from none to all of them.
        travel_px: furthest that anything moves in a window; None = as far as `steps` allow.
        step_px: furthest that anything moves in a step.
        still_share: share of windows whose background does not move at all, before which things may.
        pattern_share: share of windows in which pixels differ in gain and dark signal, as those of real sensors do: a
            pattern that stands still, of which events do not tell.

    Returns:
        On the bank's device.
    """
    step_px = step_px if travel_px is None else min(step_px, travel_px / steps)
    device = bank.tiles.device
    camera = _Path.draw(rng, batch, steps, crop_px=crop_px, step_px=step_px) if rng.random() < 0.7 else None
    tiles = bank.tiles[torch.from_numpy(rng.integers(0, len(bank.tiles), batch)).to(device)]
    ground = _Path.draw(rng, batch, steps, crop_px=crop_px, step_px=step_px)
    if still_share:
        still = rng.random(batch) < still_share
        ground, camera = ground.stopped(still), None if camera is None else camera.stopped(still)
    texture = _decoded(tiles[:, None]) * _column(np.exp(rng.normal(0, 0.3, batch)), device)[..., None]
    light = _seen(texture, _pose(ground, camera, rng, step_px=step_px, place_px=0.15 * crop_px), crop_px, mirror=True)[
        :, 0
    ]
    for layer in range(layers):
        sprites = bank.sprites[torch.from_numpy(rng.integers(0, len(bank.sprites), batch)).to(device)]
        path = _Path.draw(rng, batch, steps, crop_px=crop_px, step_px=step_px)
        pose = _pose(path, camera, rng, step_px=step_px, place_px=0.45 * crop_px)
        texture = _decoded(sprites)
        texture[:, 0] *= _column(np.exp(rng.normal(0, 0.5, batch)), device)
        # The first thing is always there, so that there is always something to occlude.
        texture *= _column(rng.random(batch) < (0.9 if layer == 0 else 0.75), device)[..., None]
        seen = _seen(texture, pose, crop_px, mirror=False)
        light.addcmul_(light, seen[:, 1], value=-1).add_(seen[:, 0])
    light *= _lamp(rng, batch, steps).to(device)[..., None, None]
    light *= _vignette(rng, batch, crop_px).to(device)[:, None]
    dark = None
    if pattern_share:
        patterned = rng.random(batch) < pattern_share
        light *= _pattern(rng, _GAINS, patterned, crop_px).add_(1).clamp_(0.5, 1.5).to(device)[:, None]
        dark = _pattern(rng, _DARK_SIGNALS, patterned & (rng.random(batch) < 0.5), crop_px).to(device)
    return Scenes(light.clamp_(min=0.0), draw_window_us(rng, batch).to(device), dark)


def draw_window_us(rng: np.random.Generator, batch: int) -> Tensor:
    """Draw how long windows last, us: float32 [b]."""
    window_us = np.exp(rng.uniform(math.log(_WINDOW_US[0]), math.log(_WINDOW_US[1]), batch))
    return torch.from_numpy(window_us.astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """A smooth random path, relative to its middle: float64 [b, T + 1] each."""

    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    angle: NDArray[np.float64]
    log_zoom: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, batch: int, steps: int, *, crop_px: int, step_px: float) -> _Path:
        """Draw paths, slow ones as often as fast ones; a few stand still."""
        budget = max(2.5, step_px * steps * 0.8)
        speed = np.exp(rng.uniform(math.log(2.0), math.log(budget), batch)) * (rng.random(batch) > 0.08)
        heading = rng.uniform(0, 2 * math.pi, batch)
        time = np.linspace(-0.5, 0.5, steps + 1)
        along, across = _wander(rng, batch, time), 0.4 * _wander(rng, batch, time)
        reach = np.hypot(*(np.abs(np.diff(a)).max(1) * steps for a in (along, across)))
        # `reach` is the top speed, in crops a window: the path keeps its form and gets the speed asked for.
        size = (speed / np.maximum(reach, 1e-6))[:, None]
        x = size * (along * np.cos(heading)[:, None] - across * np.sin(heading)[:, None])
        y = size * (along * np.sin(heading)[:, None] + across * np.cos(heading)[:, None])
        # What turning and zooming move at the border of the crop shares the rest of the budget.
        edge_speed = 0.3 * speed * rng.normal(0, 1, batch).clip(-1.5, 1.5) * (rng.random(batch) < 0.5)
        turn = (edge_speed / (0.5 * crop_px))[:, None] * time
        zoom = (edge_speed * rng.normal(0, 0.5, batch) / (0.5 * crop_px))[:, None] * time
        return cls(x, y, turn, zoom)

    def stopped(self, which: NDArray[np.bool_]) -> _Path:
        """Give the paths of which some, bool [b], stand still."""
        keep = ~which[:, None]
        return _Path(self.x_px * keep, self.y_px * keep, self.angle * keep, self.log_zoom * keep)


def _wander(rng: np.random.Generator, batch: int, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """A line, bent and swung a little: float64 [b, T + 1], 0 in the middle of a straight one."""
    line, bend = rng.normal(1.0, 0.3, (batch, 1)), rng.normal(0, 0.5, (batch, 1))
    swing, rate = rng.normal(0, 0.15, (batch, 1)), rng.uniform(0.5, 2.0, (batch, 1))
    phase = rng.uniform(0, 2 * math.pi, (batch, 1))
    return line * time + bend * time**2 + swing * np.sin(2 * math.pi * rate * time + phase)


def _pose(path: _Path, camera: _Path | None, rng: np.random.Generator, *, step_px: float, place_px: float) -> Tensor:
    """Screen to picture, as float32 [b, T + 1, 3, 3] homographies in pixels around the middles of both."""
    batch, nodes = path.x_px.shape
    x, y, angle, log_zoom = path.x_px, path.y_px, path.angle, path.log_zoom
    if camera is not None:
        x, y, angle, log_zoom = x + camera.x_px, y + camera.y_px, angle + camera.angle, log_zoom + camera.log_zoom
        # Both together must not be too fast for the nodes.
        speed = np.hypot(np.diff(x), np.diff(y)).max(1)
        slower = np.minimum(1.0, step_px / np.maximum(speed, 1e-9))[:, None]
        x, y = x * slower, y * slower
    x, y = x + rng.normal(0, place_px, (batch, 1)), y + rng.normal(0, place_px, (batch, 1))
    angle = angle + rng.uniform(0, 2 * math.pi, (batch, 1))
    zoom = np.exp(log_zoom + rng.uniform(-0.2, 0.2, (batch, 1)))
    mirror = rng.choice([-1.0, 1.0], (batch, 1))
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    pose = np.zeros((batch, nodes, 3, 3), np.float32)
    pose[..., 0, 0], pose[..., 0, 1], pose[..., 0, 2] = mirror * cos, mirror * sin, -mirror * (cos * x + sin * y)
    pose[..., 1, 0], pose[..., 1, 1], pose[..., 1, 2] = -sin, cos, sin * x - cos * y
    tilt = rng.normal(0, 1, (2, batch, 1)).clip(-2, 2) * (0.1 + 0.1 * np.linspace(-0.5, 0.5, nodes))
    # A tilt of 1 would put the horizon into the border of the largest crop.
    pose[..., 2, 0], pose[..., 2, 1], pose[..., 2, 2] = tilt[0], tilt[1], 1.0
    return torch.from_numpy(pose)


def _seen(texture: Tensor, pose: Tensor, crop_px: int, *, mirror: bool) -> Tensor:
    """Look at pictures [b, C, S, S] through poses [b, T + 1, 3, 3]: float32 [b, C, T + 1, H, W]."""
    device = texture.device
    batch, channels, size = texture.shape[0], texture.shape[1], texture.shape[2]
    nodes = pose.shape[1]
    middle = torch.arange(crop_px, device=device, dtype=torch.float32) - (crop_px - 1) / 2
    numbers = pose.to(device)[..., None, None]
    columns, rows = middle[None, :], middle[:, None]
    far = numbers[:, :, 2, 0] * (columns / crop_px) + (numbers[:, :, 2, 1] * (rows / crop_px) + 1.0)
    far = far.mul_(size / 2).reciprocal_()
    grid = torch.empty((batch, nodes, crop_px, crop_px, 2), device=device)
    for axis in range(2):
        line = numbers[:, :, axis, 0] * columns + (numbers[:, :, axis, 1] * rows + numbers[:, :, axis, 2])
        torch.mul(line, far, out=grid[..., axis])
    seen = functional.grid_sample(
        texture,
        grid.view(batch, nodes * crop_px, crop_px, 2),
        padding_mode="reflection" if mirror else "zeros",
        align_corners=False,
    )
    return seen.view(batch, channels, nodes, crop_px, crop_px)


def _decoded(pictures: Tensor) -> Tensor:
    """Linear light of stored pictures, 0..1."""
    return pictures.float().div_(255).square_()


def _lamp(rng: np.random.Generator, batch: int, steps: int) -> Tensor:
    """How bright all of a window is, over time: dim and saturated windows, and a light that goes up or down."""
    level = np.exp(rng.normal(0.15, 0.25, batch))
    mood = rng.random(batch)
    level = np.where(mood < 0.15, level * rng.uniform(0.08, 0.3, batch), level)
    level = np.where(mood > 0.8, level * rng.uniform(1.3, 2.2, batch), level)
    change = rng.normal(0, 0.3, batch) * (rng.random(batch) < 0.12)
    when, width = rng.uniform(0.1, 0.9, batch), np.exp(rng.uniform(math.log(0.02), math.log(0.3), batch))
    time = np.linspace(0, 1, steps + 1)
    step = np.tanh((time - when[:, None]) / width[:, None])
    return torch.from_numpy((level[:, None] * np.exp(change[:, None] * step)).astype(np.float32))


def _vignette(rng: np.random.Generator, batch: int, crop_px: int) -> Tensor:
    """Light falls towards a border, as in a crop of a lens's image: float32 [b, H, W]; flat in most windows."""
    axis = np.linspace(-0.5, 0.5, crop_px)
    middle = rng.uniform(-1.0, 1.0, (2, batch, 1, 1))
    away = (axis[None, None, :] - middle[0]) ** 2 + (axis[None, :, None] - middle[1]) ** 2
    depth = rng.uniform(0, 0.25, batch) * (rng.random(batch) < 0.4)
    return torch.from_numpy((1 / (1 + depth[:, None, None] * away)).astype(np.float32))


def _pattern(
    rng: np.random.Generator, sizes: tuple[float, float], patterned: NDArray[np.bool_], crop_px: int
) -> Tensor:
    """Draw how pixels differ, and in half of the windows columns too: float32 [b, H, W], 0 where not `patterned`.

    A real DAVIS346 in dim light has 6 % in its gain (`emlb_demo-01`: 2.4 levels of noise that stand still).
    """
    batch = len(patterned)
    size = np.exp(rng.uniform(math.log(sizes[0]), math.log(sizes[1]), batch)) * patterned
    columns = rng.normal(0, 1, (batch, 1, crop_px)) * (rng.random(batch) < 0.5)[:, None, None]
    pattern = size[:, None, None] * (rng.normal(0, 1, (batch, crop_px, crop_px)) + 0.5 * columns)
    return torch.from_numpy(pattern.astype(np.float32))


def _column(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """One number per window, against [b, H, W]."""
    return torch.from_numpy(np.asarray(values, np.float32)).to(device)[:, None, None]
