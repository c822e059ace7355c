"""A moving scene of known light: a textured background and a few sprites on endless, smooth paths.

It is the ground truth of the tests and of the synthetic camera, so one rule governs it: `radiance` is a pure
function of time. Nothing is stepped, so any process can rebuild the light of any instant from the settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from nire.simulation.pictures import Image, ball, leaves, plate, wheel

# Sizes and paths below are written for the DAVIS346 and scaled to the width asked for.
_REFERENCE_WIDTH = 346


class Scene(Protocol):
    """Light that is known at every instant."""

    @property
    def height(self) -> int:
        """Rows of an image."""
        ...

    @property
    def width(self) -> int:
        """Columns of an image."""
        ...

    def radiance(self, t_us: float) -> Image:
        """Linear light at an instant: float32 [H, W], 0 dark, 1 saturates a frame; the caller's to keep."""
        ...


@dataclass(frozen=True, slots=True)
class Path:
    """A smooth path without end: one sine per axis and a steady turn.

    Attributes:
        centre_px, swing_px: (x, y), middle and amplitude.
        rate_hz: (x, y), cycles a second; the top speed is 2 pi rate swing.
        phase: (x, y), radians at time 0.
        turn_hz: turns a second, clockwise on the screen.
    """

    centre_px: tuple[float, float]
    swing_px: tuple[float, float] = (0.0, 0.0)
    rate_hz: tuple[float, float] = (0.0, 0.0)
    phase: tuple[float, float] = (0.0, 0.0)
    turn_hz: float = 0.0

    def at(self, t_us: float) -> tuple[float, float, float]:
        """Position (x, y) in pixels and angle in radians at a time."""
        seconds = t_us * 1e-6
        x, y = (
            self.centre_px[i] + self.swing_px[i] * math.sin(2 * math.pi * self.rate_hz[i] * seconds + self.phase[i])
            for i in range(2)
        )
        return x, y, 2 * math.pi * ((self.turn_hz * seconds) % 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A moving thing in front of the background.

    Attributes:
        light: float32 [S, S], linear light, already multiplied by its cover.
        clear: float32 [S, S], 1 minus its cover: how much of the background is seen through.
        reach_px: nothing of it lies further from its middle, whichever way it is turned.
        path: of its middle.
    """

    light: Image
    clear: Image
    reach_px: float
    path: Path


@dataclass(frozen=True, slots=True, eq=False)
class LayeredScene:
    """A background that slides under the camera, and sprites that are drawn over it in order.

    Attributes:
        height, width: of the images, pixels.
        background: float32 [Hb, Wb], linear light, larger than the image by the path's swing.
        path: of the point of the background that is seen in the middle of the image.
    """

    height: int
    width: int
    background: Image
    path: Path
    sprites: tuple[Sprite, ...] = ()

    def radiance(self, t_us: float) -> Image:
        """Linear light at an instant: float32 [H, W]."""
        x, y, _ = self.path.at(t_us)
        image: Image = cv2.getRectSubPix(self.background, (self.width, self.height), (x, y))
        for sprite in self.sprites:
            _draw(image, sprite, t_us)
        return image


def make_scene(name: str, *, width: int, height: int, seed: int, motion: float = 1.0) -> LayeredScene:
    """Build a scene by name; equal arguments give equal light in every process.

    Args:
        name: "default" (texture, text, turning and flying things), "static" (the same, frozen), "texture" (only the
            background moves), "spokes" (one turning wheel on gray).
        width, height: pixels, at least 16.
        seed: of textures and paths.
        motion: factor on all speeds; 0 stands still.

    Raises:
        ValueError: an unknown name, or a size below 16 pixels.
    """
    if width < 16 or height < 16:
        raise ValueError(f"a scene needs at least 16 x 16 pixels, got {width} x {height}")
    builders: dict[str, Callable[[int, int, int, float], LayeredScene]] = {
        "default": _default,
        "static": lambda w, h, s, _: _default(w, h, s, 0.0),
        "texture": _texture,
        "spokes": _spokes,
    }
    if name not in builders:
        raise ValueError(f"there is no scene {name!r}; the scenes are {', '.join(sorted(builders))}")
    return builders[name](width, height, seed, motion)


def _default(width: int, height: int, seed: int, motion: float) -> LayeredScene:
    rng = np.random.default_rng([seed, 20])
    unit = width / _REFERENCE_WIDTH
    sprites = (
        _sprite(ball(rng, 66 * unit), _path(rng, width, height, (0.36, 0.30), (0.55, 0.71), motion, turn_hz=0.4)),
        _sprite(
            wheel(84 * unit, spokes=7), _path(rng, width, height, (0.24, 0.20), (0.49, 0.62), motion, turn_hz=-0.4)
        ),
        _sprite(
            plate(rng, 96 * unit, "NIRE"), _path(rng, width, height, (0.33, 0.26), (0.46, 0.58), motion, turn_hz=0.0)
        ),
        _sprite(ball(rng, 34 * unit), _path(rng, width, height, (0.42, 0.36), (0.73, 0.59), motion, turn_hz=0.6)),
    )
    base = _texture(width, height, seed, motion)
    return LayeredScene(height, width, base.background, base.path, sprites)


def _texture(width: int, height: int, seed: int, motion: float) -> LayeredScene:
    rng = np.random.default_rng([seed, 10])
    unit = width / _REFERENCE_WIDTH
    swing = (60 * unit, 48 * unit)
    border = 8
    size = (round(width + 2 * swing[0]) + 2 * border, round(height + 2 * swing[1]) + 2 * border)
    start = float(rng.uniform(0, 2 * math.pi))
    # Almost a circle: something always moves, and no two rounds are the same.
    path = Path((size[0] / 2, size[1] / 2), swing, (0.47 * motion, 0.53 * motion), (start, start + math.pi / 2))
    return LayeredScene(height, width, leaves(rng, size, unit), path)


def _spokes(width: int, height: int, seed: int, motion: float) -> LayeredScene:
    background = np.full((height + 4, width + 4), 0.4, np.float32)
    turning = _sprite(wheel(0.9 * min(width, height), spokes=9), Path((width / 2, height / 2), turn_hz=1.5 * motion))
    return LayeredScene(height, width, background, Path((width / 2 + 2, height / 2 + 2)), (turning,))


def _path(
    rng: np.random.Generator,
    width: int,
    height: int,
    swing: tuple[float, float],
    rate_hz: tuple[float, float],
    motion: float,
    *,
    turn_hz: float,
) -> Path:
    """A path around the middle of the image; `swing` is a share of width and height."""
    phase = (float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0, 2 * math.pi)))
    return Path(
        (width / 2, height / 2),
        (swing[0] * width, swing[1] * height),
        (rate_hz[0] * motion, rate_hz[1] * motion),
        phase,
        turn_hz * motion,
    )


def _draw(image: Image, sprite: Sprite, t_us: float) -> None:
    """Blend a sprite into its box of the image."""
    height, width = image.shape
    x, y, angle = sprite.path.at(t_us)
    size = sprite.light.shape[0]
    reach = sprite.reach_px
    x0, x1 = max(0, math.floor(x - reach)), min(width, math.ceil(x + reach))
    y0, y1 = max(0, math.floor(y - reach)), min(height, math.ceil(y + reach))
    if x0 >= x1 or y0 >= y1:
        return
    cos, sin, middle = math.cos(angle), math.sin(angle), (size - 1) / 2
    u, v = x0 - x, y0 - y
    to_sprite = np.array([[cos, sin, middle + cos * u + sin * v], [-sin, cos, middle - sin * u + cos * v]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    box = (x1 - x0, y1 - y0)
    light = cv2.warpAffine(sprite.light, to_sprite, box, flags=flags)
    clear = cv2.warpAffine(sprite.clear, to_sprite, box, flags=flags, borderValue=(1.0,))
    part = image[y0:y1, x0:x1]
    part *= clear
    part += light


def _sprite(picture: tuple[Image, Image], path: Path) -> Sprite:
    light, cover = picture
    rows, columns = np.nonzero(cover > 0)
    middle = (cover.shape[0] - 1) / 2
    reach_px = float(np.hypot(rows - middle, columns - middle).max()) + 2
    return Sprite(np.ascontiguousarray(light * cover), np.ascontiguousarray(1 - cover), reach_px, path)
