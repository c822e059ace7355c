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
from nire.scene import make_scene
from nire.sensor_model import sensor_model
from nire.shutter import Shutter
from nire.simulate import EventSensor, FrameSensor
from nire.types import EventBatch, Frame, Geometry

_STEP_US = 2000
# Of 40 ms: the exposures of N frames, spread over the window.
_SPAN_US = 40_000
_EXPOSURES_US: dict[int, tuple[tuple[int, int], ...]] = {
    0: (),
    1: ((2_000, 38_000),),
    2: ((0, 12_000), (28_000, 40_000)),
}
BuildInputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def windows(config: NetworkConfig, *, height: int, width: int, frames: int, count: int) -> Iterator[BuildInputs]:
    """Render windows of 40 ms, slow and fast, each of another scene; the same ones every time.

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
        seen, events = _seen(height, width, _EXPOSURES_US[frames], seed)
        planes = bin_events(events, 0, _SPAN_US, geometry=Geometry(width, height), bin_us=-(-_SPAN_US // slots))
        model = sensor_model("realistic")
        counts = planes.counts.float()
        change = counts[:, 1] * model.threshold_positive - counts[:, 0] * model.threshold_negative
        edges = torch.linspace(0, 1, config.segments + 1)
        images = np.stack([frame.pixels[..., 0] for frame in seen]) if seen else np.zeros((0, height, width))
        yield (
            torch.from_numpy(images.astype(np.float32)).div(255).sqrt()[None, :, None],
            change.view(1, config.segments, config.bins, height, width),
            torch.tensor(_EXPOSURES_US[frames]).view(1, -1, 1, 2).expand(-1, -1, height, -1) / _SPAN_US,
            torch.stack((edges[:-1], edges[1:]), -1)[None],
            torch.ones(1, config.segments, config.bins),
        )


def _seen(
    height: int, width: int, exposures_us: tuple[tuple[int, int], ...], seed: int
) -> tuple[list[Frame], EventBatch]:
    """Let a sensor see a scene: the frames, and all events."""
    scene = make_scene("default", width=width, height=height, seed=seed, motion=(0.3, 1.0, 3.0)[seed % 3])
    model = sensor_model("realistic")
    camera = FrameSensor(model, step_us=_STEP_US, seed=seed)
    for index, (start_us, end_us) in enumerate(exposures_us):
        camera.begin(index, Shutter.flat(float(start_us), float(end_us), height), width)
    sensor = EventSensor(model, scene.radiance(0.0), 0.0, step_us=_STEP_US, seed=seed)
    frames = camera.advance(scene.radiance(0.0), 0.0)
    batches = []
    for node_us in np.arange(_STEP_US, _SPAN_US + 1, _STEP_US, dtype=float).tolist():
        light = scene.radiance(node_us)
        batches.append(sensor.advance(light, node_us))
        frames += camera.advance(light, node_us)
    t_us, x, y, p = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("t_us", "x", "y", "p"))
    return frames, EventBatch(t_us, x, y, p, _SPAN_US)
