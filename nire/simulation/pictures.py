"""The pictures that a synthetic scene is made of: drawn large, then reduced, in linear light; all ours, no files."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

_DARKEST, _BRIGHTEST = 0.06, 0.92


def _canvas(size: float) -> tuple[int, int]:
    """Final and drawing size of a sprite: four times larger while drawn, for smooth edges."""
    small = max(8, round(size))
    return small, 4 * small


def _shrink(image: Image, size: int) -> Image:
    """Reduce by averaging, with a soft lens: detail under a pixel is no use to an event camera."""
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (0, 0), 0.6)


def _disc(size: int, radius: float) -> Image:
    cover = np.zeros((size, size), np.float32)
    cv2.circle(cover, (size // 2, size // 2), round(radius), (1.0,), -1)
    return cover


def ball(rng: np.random.Generator, size: float) -> tuple[Image, Image]:
    """Draw a shaded ball with patches on it.

    Args:
        rng: chooses the patches.
        size: edge of the picture, pixels.

    Returns:
        (light, cover): float32 [S, S], linear light, and 1 where the ball is.
    """
    small, large = _canvas(size)
    radius = 0.44 * large
    light = np.full((large, large), float(rng.uniform(0.45, 0.6)), np.float32)
    for _ in range(14):
        centre = tuple(int(v) for v in rng.integers(0, large, 2))
        cv2.circle(
            light, centre, int(large * rng.uniform(0.05, 0.14)), (float(rng.choice([0.2, 0.28, 0.72, 0.8])),), -1
        )
    yy, xx = np.mgrid[0:large, 0:large].astype(np.float32) / large - 0.5
    shade = 1.08 - 1.5 * ((xx + 0.12) ** 2 + (yy + 0.14) ** 2)
    light = np.clip(light * shade, _DARKEST, _BRIGHTEST).astype(np.float32)
    return _shrink(light, small), _shrink(_disc(large, radius), small)


def wheel(size: float, *, spokes: int) -> tuple[Image, Image]:
    """Draw a wheel whose turn can be seen: spokes between a rim and a hub; arguments and result as `ball`."""
    small, large = _canvas(size)
    yy, xx = np.mgrid[0:large, 0:large].astype(np.float32) - large / 2
    angle = np.arctan2(yy, xx)
    light = np.where(np.sin(spokes * angle) > 0, 0.68, 0.19).astype(np.float32)
    radius = np.hypot(xx, yy) / large
    light[radius > 0.36] = 0.32
    light[radius < 0.07] = 0.6
    return _shrink(light, small), _shrink(_disc(large, 0.45 * large), small)


def plate(rng: np.random.Generator, size: float, text: str) -> tuple[Image, Image]:
    """Draw a bright plate with text and a row of bars that get finer; arguments and result as `ball`."""
    small, large = _canvas(size)
    light = np.full((large, large), 0.72, np.float32)
    cover = np.zeros((large, large), np.float32)
    top, bottom = int(0.26 * large), int(0.74 * large)
    cover[top:bottom, int(0.02 * large) : int(0.98 * large)] = 1.0
    scale = large / 100
    ink = np.zeros((large, large), np.uint8)  # OpenCV 5 writes text into 8-bit images only
    at = (int(0.07 * large), int(0.53 * large))
    cv2.putText(ink, text, at, cv2.FONT_HERSHEY_DUPLEX, 0.98 * scale, (255,), max(1, int(3 * scale)), cv2.LINE_AA)
    light += (0.15 - light) * (ink.astype(np.float32) / 255)
    x = 0.08 * large
    for width in np.linspace(0.05, 0.02, 13) * large:
        cv2.rectangle(
            light,
            (int(x), int(0.6 * large)),
            (int(x + width / 2), int(0.69 * large)),
            (float(rng.uniform(0.18, 0.3)),),
            -1,
        )
        x += width * 1.45
    return _shrink(light, small), _shrink(cover, small)


def leaves(rng: np.random.Generator, size: tuple[int, int], unit: float) -> Image:
    """Draw a collage of overlapping shapes of all sizes ("dead leaves"): edges and flat parts like natural images.

    Args:
        rng: chooses everything.
        size: (width, height), pixels.
        unit: size of shapes; 1 suits an image of 346 columns.

    Returns:
        float32 [H, W], linear light between 0.06 and 0.92.
    """
    width, height = size
    zoom = 2
    image = np.full((height * zoom, width * zoom), 0.35, np.float32)
    count = int(0.2 * width * height / (unit * unit) / 100)
    # A cubic law of radii gives the same look at every distance; big ones first, so that small ones stay visible.
    radii = np.sort((1 - rng.uniform(0, 0.998, count)) ** -0.5)[::-1]
    radii = np.minimum(radii * 9.0, 80) * unit * zoom
    places = rng.uniform((0, 0), (width * zoom, height * zoom), (count, 2))
    levels = np.exp(rng.normal(math.log(0.36), 0.4, count))
    for radius, place, level in zip(radii, places, np.clip(levels, 0.09, 0.85), strict=True):
        _leaf(image, rng, (int(place[0]), int(place[1])), float(radius), float(level))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 1.6)
    broad = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 24 * unit)
    textured = small * np.exp(0.05 * grain / grain.std() + 0.16 * broad / broad.std())
    return np.clip(cv2.GaussianBlur(textured, (0, 0), 0.7), _DARKEST, _BRIGHTEST).astype(np.float32)


def _leaf(image: Image, rng: np.random.Generator, centre: tuple[int, int], radius: float, level: float) -> None:
    kind = rng.integers(0, 3)
    if kind == 0:
        cv2.circle(image, centre, max(1, round(radius)), (level,), -1)
        return
    if kind == 1:
        axes = (max(1, round(radius * 1.4)), max(1, round(radius * rng.uniform(0.35, 0.9))))
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, (level,), -1)
        return
    angles = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 6))))
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius * 1.3 + centre
    cv2.fillPoly(image, [corners.astype(np.int32)], (level,))
