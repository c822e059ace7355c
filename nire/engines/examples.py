"""What a network sees at work, for engines that have to measure it: windows of a rendered scene and a simulated sensor.

No pictures and no recordings are needed, so an engine can be prepared wherever the network runs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from nire.network.config import NetworkConfig
from nire.planes import bin_events
from nire.shutter import Shutter
from nire.simulation.scene import Scene, make_scene
from nire.simulation.sensor_model import sensor_model
from nire.simulation.simulate import EventSensor, FrameSensor
from nire.types import EventBatch, Frame, Geometry

_STEP_US = 2000
_SPAN_US = 40_000
_SCENES = ("default", "texture", "spokes")
# How far the background moves in a window, pixels: as the network sees it, whatever the size of the image.
_TRAVELS_PX = (2.0, 8.0, 24.0)
# The same in widths, at motion 1: half a turn a second on a circle whose radius is 0.17 widths.
_TRAVEL_WIDTHS = 0.022
# Of N frames: blurry, sharp, and between.
_Exposures = tuple[tuple[int, int], ...]
_EXPOSURES_US: dict[int, tuple[_Exposures, ...]] = {
    0: ((),),
    1: (((2_000, 38_000),), ((4_000, 36_000),), ((4_000, 6_000),), ((8_000, 16_000),)),
    2: (
        ((0, 12_000), (28_000, 40_000)),
        ((0, 2_000), (38_000, 40_000)),
        ((0, 14_000), (26_000, 40_000)),
        ((0, 4_000), (36_000, 40_000)),
    ),
}
BuildInputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def windows(config: NetworkConfig, *, height: int, width: int, frames: int, count: int) -> Iterator[BuildInputs]:
    """Render windows of 40 ms, slow and fast, blurry and sharp, each of another scene; the same ones every time.

    Twelve have every speed with every exposure. Where all are slow or alike, 8 bits lose 0.1 dB more in what is not.

    Args:
        config: of the network.
        height, width: of the images, padded.
        frames: N.
        count: how many.

    Yields:
        What `ReExposureNetwork.build` takes, b = 1.
    """
    slots = config.segments * config.bins
    for seed in range(count):
        exposures_us = _EXPOSURES_US[frames][seed % len(_EXPOSURES_US[frames])]
        motion = _TRAVELS_PX[seed % len(_TRAVELS_PX)] / (_TRAVEL_WIDTHS * width)
        scene_name = _SCENES[seed // len(_TRAVELS_PX) % len(_SCENES)]
        scene = make_scene(scene_name, width=width, height=height, seed=seed, motion=motion)
        seen, events = _seen(scene, exposures_us, seed)
        planes = bin_events(events, 0, _SPAN_US, geometry=Geometry(width, height), bin_us=-(-_SPAN_US // slots))
        model = sensor_model("realistic")
        counts = planes.counts.float()
        change = counts[:, 1] * model.threshold_positive - counts[:, 0] * model.threshold_negative
        edges = torch.linspace(0, 1, config.segments + 1)
        images = np.stack([frame.pixels[..., 0] for frame in seen]) if seen else np.zeros((0, height, width))
        yield (
            torch.from_numpy(images.astype(np.float32)).div(255).sqrt()[None, :, None],
            change.view(1, config.segments, config.bins, height, width),
            torch.tensor(exposures_us).view(1, -1, 1, 2).expand(-1, -1, height, -1) / _SPAN_US,
            torch.stack((edges[:-1], edges[1:]), -1)[None],
            torch.ones(1, config.segments, config.bins),
        )


def _seen(scene: Scene, exposures_us: _Exposures, seed: int) -> tuple[list[Frame], EventBatch]:
    """Let a sensor see a scene: the frames, and all events."""
    model = sensor_model("realistic")
    camera = FrameSensor(model, step_us=_STEP_US, seed=seed)
    for index, (start_us, end_us) in enumerate(exposures_us):
        camera.begin(index, Shutter.flat(float(start_us), float(end_us), scene.height), scene.width)
    sensor = EventSensor(model, scene.radiance(0.0), 0.0, step_us=_STEP_US, seed=seed)
    frames = camera.advance(scene.radiance(0.0), 0.0)
    batches = []
    for node_us in np.arange(_STEP_US, _SPAN_US + 1, _STEP_US, dtype=float).tolist():
        light = scene.radiance(node_us)
        batches.append(sensor.advance(light, node_us))
        frames += camera.advance(light, node_us)
    return frames, EventBatch.joined(batches, _SPAN_US)
