"""A moving scene in colour of known light, and what cameras see of it: gray events, colour frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.light import LUMA
from nire.shutter import Shutter
from nire.simulation.scene import LayeredScene, make_scene
from nire.simulation.sensor_model import IDEAL
from nire.simulation.simulate import EventSensor, FrameSensor
from nire.types import EventBatch, Frame

# Red ball, green wheel, blue plate, yellow ball, over a background that is redder on its left.
_TINTS = ((1.0, 0.35, 0.25), (0.3, 0.95, 0.35), (0.3, 0.45, 1.0), (0.95, 0.85, 0.2))

View = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class ColourScene:
    """Three layered scenes that move alike: red, green and blue light."""

    planes: tuple[LayeredScene, LayeredScene, LayeredScene]

    def light(self, t_us: float) -> NDArray[np.float32]:
        """Linear light: float32 [H, W, 3], RGB."""
        return np.stack([plane.radiance(t_us) for plane in self.planes], axis=-1)


def colour_scene(width: int, height: int, *, seed: int = 3, motion: float = 1.0) -> ColourScene:
    """Tint the default scene; equal arguments give equal light."""
    gray = make_scene("default", width=width, height=height, seed=seed, motion=motion)
    across = np.linspace(0, 1, gray.background.shape[1], dtype=np.float32)
    background = (1.0 - 0.4 * across, np.full_like(across, 0.75), 0.6 + 0.4 * across)
    planes = [
        replace(
            gray,
            background=gray.background * background[channel],
            sprites=tuple(
                replace(sprite, light=sprite.light * np.float32(tint[channel]))
                for sprite, tint in zip(gray.sprites, _TINTS, strict=True)
            ),
        )
        for channel in range(3)
    ]
    return ColourScene((planes[0], planes[1], planes[2]))


def as_seen(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Look from where the light is rendered."""
    return light


def record(
    scene: ColourScene,
    shutters: list[Shutter],
    *,
    first_us: int,
    end_us: int,
    step_us: int = 1000,
    view: View = as_seen,
) -> tuple[list[EventBatch], list[Frame]]:
    """Let an ideal event camera look through `view`, and an ideal frame camera at the scene itself.

    Returns:
        Event batches every `step_us`, and the frames (RGB, linear) in the order of the shutters.
    """
    cameras = [FrameSensor(IDEAL, step_us=step_us, seed=1) for _ in range(3)]
    light = scene.light(first_us)
    sensor = EventSensor(IDEAL, _luma(view(light)), first_us, step_us=step_us, seed=1)
    waiting, batches, planes = list(enumerate(shutters)), [], [[], [], []]
    for node_us in range(first_us, end_us, step_us):
        while waiting and waiting[0][1].first_us < node_us + step_us:
            index, shutter = waiting.pop(0)
            for camera in cameras:
                camera.begin(index, shutter, light.shape[1])
        for channel, camera in enumerate(cameras):
            planes[channel] += camera.advance(np.ascontiguousarray(light[..., channel]), node_us)
        light = scene.light(node_us + step_us)
        batches.append(sensor.advance(_luma(view(light)), node_us + step_us))
    frames = [
        replace(red, pixels=np.concatenate([red.pixels, green.pixels, blue.pixels], axis=2))
        for red, green, blue in zip(*planes, strict=True)
    ]
    return batches, frames


def warp_view(matrix: NDArray[np.float64], size: tuple[int, int]) -> View:
    """See through a homography that maps the scene's pixels to the viewer's; `size` is (width, height)."""
    return lambda light: np.asarray(
        cv2.warpPerspective(light, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def bayer_view(pattern: str) -> View:
    """See each pixel's light through its own filter only, as the events of a colour DAVIS do: [H, W, 3], all alike."""

    def view(light: NDArray[np.float32]) -> NDArray[np.float32]:
        seen = np.empty_like(light)
        for place, colour in enumerate(pattern):
            rows, columns = slice(place // 2, None, 2), slice(place % 2, None, 2)
            seen[rows, columns] = light[rows, columns, "RGB".index(colour), None]
        return seen

    return view


def mosaic_of(image: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    """See a colour image through a Bayer filter: uint8 [H, W, 3] RGB to uint8 [H, W]."""
    plane = np.empty(image.shape[:2], np.uint8)
    for place, colour in enumerate(pattern):
        rows, columns = slice(place // 2, None, 2), slice(place % 2, None, 2)
        plane[rows, columns] = image[rows, columns, "RGB".index(colour)]
    return plane


def _luma(light: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(light @ LUMA)
